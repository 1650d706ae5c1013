//! `kill -9` at chosen and at random moments, and storms of other faults. No acknowledged call is lost, and none is processed twice.

#![expect(clippy::print_stdout, reason = "a run prints its faults and the seed that repeats it")]

/// Declares tests for functions that take a `Stage`: one test per store engine. The leases are short, because the work of a killed
/// replica waits for their end.
macro_rules! on_every_store {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test]
                async fn $test() {
                    let mut stage = crate::stage::Stage::set_up().await;
                    stage.shorten_leases();
                    super::$test(stage).await;
                }
            )+
        }

        mod postgres {
            $(
                #[tokio::test]
                async fn $test() {
                    let mut stage = crate::stage::Stage::set_up_on_postgres().await;
                    stage.shorten_leases();
                    super::$test(stage).await;
                }
            )+
        }
    };
}
use on_every_store;

mod disk_full;
pub(crate) mod ledger;
mod moments;
mod random;
mod storm;
mod unknown_calls;
