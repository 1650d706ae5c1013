//! `kill -9` at chosen and at random moments, and storms of everything else: nothing that was promised is lost, nothing is done twice.

#![expect(clippy::print_stdout, reason = "what a run went through is told, and the seed that repeats it")]

/// Makes tests of functions that take a stage, for each store that the gateway knows.
macro_rules! on_every_store {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test(crate::stage::Stage::set_up().await).await;
                }
            )+
        }

        mod postgres {
            $(
                #[tokio::test]
                async fn $test() {
                    super::$test(crate::stage::Stage::set_up_on_postgres().await).await;
                }
            )+
        }
    };
}
use on_every_store;

mod disk_full;
mod ledger;
mod moments;
mod random;
mod storm;
