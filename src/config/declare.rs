//! The macro that declares a table of settings.
//!
//! Each key of a table is declared with its description, name, type, and a [`FieldSource`](super::keys::FieldSource) that reads
//! and describes the key. The struct, its documentation, the reader, `config.example.toml`, `docs/settings.md` and the schema of
//! the Helm chart follow from this declaration.

/// Declares a table of settings.
///
/// - `struct NAME { … }` defines a struct with a field per key.
/// - `fields of NAME { … }` fills a struct that is defined elsewhere and has a field per key.
/// - `keys of NAME { … } build |section| { … }` reads the keys into local variables and builds the value from them.
///
/// A `check` block compares keys. In the block, each field is a local `Option`, which is `None` if the value is
/// invalid. So one invalid value does not hide a contradiction between two other values.
macro_rules! settings {
    (
        $(#[doc = $about:literal])+
        struct $name:ident { $( $(#[doc = $text:literal])+ $field:ident: $type:ty = $source:expr, )+ }
        $( check |$section:ident| $check:block )?
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $name { $( $(#[doc = $text])+ pub $field: $type, )+ }

        settings! {
            $(#[doc = $about])+
            fields of $name { $( $(#[doc = $text])+ $field: $type = $source, )+ }
            $( check |$section| $check )?
        }
    };
    (
        $(#[doc = $about:literal])+
        fields of $name:ident { $( $(#[doc = $text:literal])+ $field:ident: $type:ty = $source:expr, )+ }
        $( check |$section:ident| $check:block )?
    ) => {
        impl $crate::config::keys::SettingsTable for $name {
            const ABOUT: &'static str = concat!($($about),+);

            fn read(section: &mut $crate::config::reader::Section<'_>) -> Option<Self> {
                $( let $field: Option<$type> = $crate::config::keys::FieldSource::read(&$source, section, stringify!($field)); )+
                $({
                    let $section = &mut *section;
                    $check
                })?
                Some(Self { $( $field: $field?, )+ })
            }

            settings! { @describe $( $(#[doc = $text])+ $field: $type = $source, )+ }
        }
    };
    (
        $(#[doc = $about:literal])+
        keys of $name:ident { $( $(#[doc = $text:literal])+ $field:ident: $type:ty = $source:expr, )+ }
        build |$section:ident| $build:block
    ) => {
        impl $crate::config::keys::SettingsTable for $name {
            const ABOUT: &'static str = concat!($($about),+);

            fn read(section: &mut $crate::config::reader::Section<'_>) -> Option<Self> {
                $( let $field: Option<$type> = $crate::config::keys::FieldSource::read(&$source, section, stringify!($field)); )+
                let $section = section;
                $build
            }

            settings! { @describe $( $(#[doc = $text])+ $field: $type = $source, )+ }
        }
    };
    (@describe $( $(#[doc = $text:literal])+ $field:ident: $type:ty = $source:expr, )+) => {
        fn describe(table: &mut $crate::config::declared::DeclaredTable) {
            $(
                let text = concat!($($text),+).trim();
                $crate::config::keys::FieldSource::<$type>::describe(&$source, table, stringify!($field), text);
            )+
        }
    };
}

pub(super) use settings;
