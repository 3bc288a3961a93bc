//! One table per section of the configuration: the struct that rooms read, and what
//! the reference, the environment and the checks need to know of every key, from one
//! declaration (decisions/0001).

use toml::de::DeValue;

use super::quantity::OptionValue;

/// What is known of one option.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// Its key within the section.
    pub key: &'static str,
    /// What to call its type.
    pub kind: &'static str,
    /// What it does.
    pub about: &'static str,
    /// Its default, as text.
    pub default: &'static str,
    /// Its bounds: `low to high`, or prose.
    pub bounds: &'static str,
    /// When to change it.
    pub change: &'static str,
}

/// A section: keys that can be set one by one.
pub trait Section {
    /// Its name.
    fn name(&self) -> &'static str;
    /// What it is about.
    fn about(&self) -> &'static str;
    /// Its options.
    fn fields(&self) -> &'static [Field];
    /// Sets an option.
    ///
    /// # Errors
    /// What is wrong with the value.
    fn set(&mut self, key: &str, value: Input<'_>) -> Result<(), String>;
    /// An option's value, as written in TOML; empty if it has none.
    fn show(&self, key: &str) -> String;
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// An environment variable.
    Text(&'a str),
    /// A file.
    Toml(&'a DeValue<'a>),
}

/// Reads a value and holds it against its bounds.
pub(super) fn read<T: OptionValue>(input: Input<'_>, bounds: &str) -> Result<T, String> {
    let value = match input {
        Input::Text(text) => T::from_text(text)?,
        Input::Toml(value) => T::from_toml(value)?,
    };
    if let Some((low, high)) = range::<T>(bounds)
        && !value.within(&low, &high)
    {
        return Err(format!("out of bounds: {bounds} is allowed"));
    }
    Ok(value)
}

/// The ends of bounds that read `low to high`.
pub(super) fn range<T: OptionValue>(bounds: &str) -> Option<(T, T)> {
    let (low, high) = bounds.split_once(" to ")?;
    Some((T::from_text(low).ok()?, T::from_text(high).ok()?))
}

macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $struct:ident $name:literal {
            $(
                $(#[doc = $doc:literal])+
                $key:ident: $type:ty = $default:literal, bounds $bounds:literal, change $change:literal;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $struct {
            $(
                $(#[doc = $doc])+
                #[doc = concat!("\n\nDefault: `", $default, "`. Bounds: ", $bounds, ". Change ", $change, ". At restart.")]
                pub $key: $type,
            )+
        }

        impl Default for $struct {
            fn default() -> Self {
                Self {
                    $($key: $crate::options::section::read(
                        $crate::options::section::Input::Text($default), $bounds,
                    ).expect(concat!("default of ", $name, ".", stringify!($key))),)+
                }
            }
        }

        impl $crate::options::section::Section for $struct {
            fn name(&self) -> &'static str {
                $name
            }

            fn about(&self) -> &'static str {
                concat!($($about),+)
            }

            fn fields(&self) -> &'static [$crate::options::section::Field] {
                &[$($crate::options::section::Field {
                    key: stringify!($key),
                    kind: <$type as $crate::options::quantity::OptionValue>::KIND,
                    about: concat!($($doc),+),
                    default: $default,
                    bounds: $bounds,
                    change: $change,
                }),+]
            }

            fn set(&mut self, key: &str, value: $crate::options::section::Input<'_>) -> Result<(), String> {
                match key {
                    $(stringify!($key) => self.$key = $crate::options::section::read(value, $bounds)?,)+
                    other => return Err(format!("no option is called {other}")),
                }
                Ok(())
            }

            fn show(&self, key: &str) -> String {
                match key {
                    $(stringify!($key) => $crate::options::quantity::OptionValue::show(&self.$key),)+
                    _ => String::new(),
                }
            }
        }
    };
}
pub(super) use section;
