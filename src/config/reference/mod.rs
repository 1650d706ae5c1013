//! The files that are generated from the declared settings.

mod example;
mod page;
mod schema;

use super::declared::{DeclaredTable, Shape};
use super::keys::describe;
use super::settings::Settings;

pub use example::example_file;
pub use page::reference_page;
pub use schema::chart_schema;

/// Describes all settings.
fn declared_settings() -> DeclaredTable {
    describe::<Settings>(String::new(), Shape::Single)
}
