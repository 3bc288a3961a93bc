//! How one option is written: durations and sizes with their unit, addresses, lists.
//!
//! Every type of an option implements [`OptionValue`]: read from TOML, read from the
//! text of an environment variable, shown in the reference, and compared with bounds.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

/// A value that an option can have.
pub trait OptionValue: Sized {
    /// What to call the type in the reference and in errors.
    const KIND: &'static str;

    /// Reads the text of an environment variable, a default or a bound.
    ///
    /// # Errors
    /// What is wrong with it and how to write it, as one sentence.
    fn from_text(text: &str) -> Result<Self, String>;

    /// Reads a TOML value: a string, unless the type has a TOML form of its own.
    ///
    /// # Errors
    /// As [`OptionValue::from_text`].
    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        match value.as_str() {
            Some(text) => Self::from_text(text),
            None => Err(format!("not {}: write it in quotes", Self::KIND)),
        }
    }

    /// As it is written in TOML; empty for an optional value that is not set.
    fn show(&self) -> String;

    /// Whether it lies in `low..=high`. Types without an order always do.
    fn within(&self, _low: &Self, _high: &Self) -> bool {
        true
    }
}

/// A number of bytes, written `4MiB`. Units are powers of 1024: B, KiB, MiB, GiB, TiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct ByteSize(pub u64);

const BYTE_UNITS: [(&str, u64); 5] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("B", 1),
];

impl ByteSize {
    /// As a length in memory; the largest one on a machine that cannot hold it.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (unit, bytes) = BYTE_UNITS
            .into_iter()
            .find(|(_, bytes)| self.0 >= *bytes && self.0.is_multiple_of(*bytes))
            .unwrap_or(("B", 1));
        write!(f, "{}{unit}", self.0 / bytes)
    }
}

/// Splits `"64MiB"` into its number and its unit.
fn number_and_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.trim_start()))
}

impl OptionValue for ByteSize {
    const KIND: &'static str = "a size";

    fn from_text(text: &str) -> Result<Self, String> {
        let wrong = || {
            "not a size: write a whole number and a unit (B, KiB, MiB, GiB, TiB), such as \"64MiB\""
                .to_owned()
        };
        let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
        let (_, bytes) = BYTE_UNITS
            .into_iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(wrong)?;
        number
            .checked_mul(bytes)
            .map(ByteSize)
            .ok_or_else(|| "too large: it does not fit 64 bits".to_owned())
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }

    fn within(&self, low: &Self, high: &Self) -> bool {
        (low..=high).contains(&self)
    }
}

const TIME_UNITS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1_000),
    ("ms", 1),
];

impl OptionValue for Duration {
    const KIND: &'static str = "a duration";

    fn from_text(text: &str) -> Result<Self, String> {
        let wrong = || {
            "not a duration: write a whole number and a unit (ms, s, m, h, d), such as \"250ms\" or \"7d\"".to_owned()
        };
        let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
        let (_, millis) = TIME_UNITS
            .into_iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(wrong)?;
        number
            .checked_mul(millis)
            .map(Duration::from_millis)
            .ok_or_else(|| "too long: it does not fit 64 bits of milliseconds".to_owned())
    }

    fn show(&self) -> String {
        let millis = u64::try_from(self.as_millis()).unwrap_or(u64::MAX);
        let (unit, size) = TIME_UNITS
            .into_iter()
            .find(|(_, size)| millis >= *size && millis.is_multiple_of(*size))
            .unwrap_or(("ms", 1));
        format!("\"{}{unit}\"", millis / size)
    }

    fn within(&self, low: &Self, high: &Self) -> bool {
        (low..=high).contains(&self)
    }
}

macro_rules! whole_number {
    ($($type:ty),*) => { $(
        impl OptionValue for $type {
            const KIND: &'static str = "a whole number";

            fn from_text(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("not a whole number up to {}", <$type>::MAX))
            }

            fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
                match value.as_integer() {
                    Some(number) => <$type>::from_str_radix(number.as_str(), number.radix())
                        .map_err(|_| format!("not a whole number up to {}", <$type>::MAX)),
                    None => Err("not a whole number: write it without quotes".to_owned()),
                }
            }

            fn show(&self) -> String {
                self.to_string()
            }

            fn within(&self, low: &Self, high: &Self) -> bool {
                (low..=high).contains(&self)
            }
        }
    )* };
}
whole_number!(u16, u32);

impl OptionValue for bool {
    const KIND: &'static str = "true or false";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|_| "neither true nor false".to_owned())
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        value
            .as_bool()
            .ok_or_else(|| "neither true nor false; write it without quotes".to_owned())
    }

    fn show(&self) -> String {
        self.to_string()
    }
}

impl OptionValue for String {
    const KIND: &'static str = "text";

    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }

    fn show(&self) -> String {
        quoted(self)
    }
}

impl OptionValue for PathBuf {
    const KIND: &'static str = "a path";

    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("empty: write a path".to_owned());
        }
        Ok(PathBuf::from(text))
    }

    fn show(&self) -> String {
        quoted(&self.to_string_lossy())
    }
}

impl OptionValue for SocketAddr {
    const KIND: &'static str = "an IP address with a port";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| {
            "not an IP address with a port: write one such as \"127.0.0.1:9092\", \"0.0.0.0:9092\" or \"[::1]:9092\"".to_owned()
        })
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

/// A host and a port, as other machines write it. Resolved by whoever connects.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// A name or an address; an IPv6 address without its brackets.
    pub host: String,
    /// Never 0.
    pub port: u16,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl OptionValue for HostPort {
    const KIND: &'static str = "host:port";

    fn from_text(text: &str) -> Result<Self, String> {
        let wrong = || {
            "not host:port: write one such as \"broker-1.example:9092\" or \"10.0.0.5:9092\""
                .to_owned()
        };
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let host = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(host);
        let port = port
            .parse()
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(wrong)?;
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        if host.is_empty() || host.len() > 255 || !host.chars().all(legal) {
            return Err(wrong());
        }
        Ok(HostPort {
            host: host.to_owned(),
            port,
        })
    }

    fn show(&self) -> String {
        format!("\"{self}\"")
    }
}

/// A member of the metadata group: its node id and where its peers reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voter {
    /// Its node id.
    pub node: u32,
    /// Its peer address.
    pub address: HostPort,
}

impl OptionValue for Voter {
    const KIND: &'static str = "id@host:port";

    fn from_text(text: &str) -> Result<Self, String> {
        let wrong = || "not id@host:port: write one such as \"1@10.0.0.5:19092\"".to_owned();
        let (node, address) = text.split_once('@').ok_or_else(wrong)?;
        Ok(Voter {
            node: node.parse().ok().filter(|id| *id != 0).ok_or_else(wrong)?,
            address: HostPort::from_text(address).map_err(|_| wrong())?,
        })
    }

    fn show(&self) -> String {
        format!("\"{}@{}\"", self.node, self.address)
    }
}

/// An option that need not be set. An empty environment variable unsets it.
impl<T: OptionValue> OptionValue for Option<T> {
    const KIND: &'static str = T::KIND;

    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Ok(None);
        }
        T::from_text(text).map(Some)
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        T::from_toml(value).map(Some)
    }

    fn show(&self) -> String {
        self.as_ref().map(T::show).unwrap_or_default()
    }

    fn within(&self, low: &Self, high: &Self) -> bool {
        match (self, low, high) {
            (Some(value), Some(low), Some(high)) => value.within(low, high),
            (None, _, _) | (_, None, _) | (_, _, None) => true,
        }
    }
}

/// A list: an array in TOML, separated by commas in an environment variable.
impl<T: OptionValue> OptionValue for Vec<T> {
    const KIND: &'static str = "a list";

    fn from_text(text: &str) -> Result<Self, String> {
        let items = text
            .split(',')
            .map(str::trim)
            .filter(|item| !item.is_empty());
        items
            .map(|item| T::from_text(item).map_err(|problem| format!("item '{item}' is {problem}")))
            .collect()
    }

    fn from_toml(value: &DeValue<'_>) -> Result<Self, String> {
        let DeValue::Array(items) = value else {
            return Err(format!(
                "not a list: write [ ... ] with each item {}",
                T::KIND
            ));
        };
        items
            .iter()
            .zip(1..)
            .map(|(item, nth)| {
                T::from_toml(item.get_ref()).map_err(|problem| format!("item {nth} is {problem}"))
            })
            .collect()
    }

    fn show(&self) -> String {
        let items: Vec<_> = self.iter().map(T::show).collect();
        format!("[{}]", items.join(", "))
    }
}

/// A choice among a few words.
macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl OptionValue for $name {
            const KIND: &'static str = "a word";

            fn from_text(text: &str) -> Result<Self, String> {
                match text {
                    $($word => Ok($name::$variant),)+
                    other => Err(format!("'{other}' is none of: {}", [$($word),+].join(", "))),
                }
            }

            fn show(&self) -> String {
                match self { $($name::$variant => concat!("\"", $word, "\"").to_owned(),)+ }
            }
        }
    };
}

choice! {
    /// How much is logged.
    LogLevel {
        /// What is lost or must be acted on.
        Error = "error",
        /// What may need attention.
        Warn = "warn",
        /// Changes of state.
        Info = "info",
        /// Decisions.
        Debug = "debug",
        /// Everything.
        Trace = "trace",
    }
}

choice! {
    /// How a log line looks.
    LogFormat {
        /// For people.
        Text = "text",
        /// One JSON object a line.
        Json = "json",
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_and_shown_with_their_unit() {
        let table = [
            ("250ms", Some(250)),
            ("0ms", Some(0)),
            ("1s", Some(1_000)),
            ("90s", Some(90_000)),
            ("7d", Some(604_800_000)),
            ("2 h", Some(7_200_000)),
            ("7", None),
            ("", None),
            ("ms", None),
            ("-1s", None),
            ("1.5s", None),
            ("1w", None),
            ("99999999999999999999s", None),
            ("9999999999999999d", None),
        ];
        for (text, millis) in table {
            let read = Duration::from_text(text).ok();
            assert_eq!(read, millis.map(Duration::from_millis), "{text}");
        }
        assert_eq!(Duration::from_secs(90).show(), "\"90s\"");
        assert_eq!(Duration::from_secs(7_200).show(), "\"2h\"");
        assert_eq!(Duration::ZERO.show(), "\"0ms\"");

        for (text, bytes) in [
            ("0B", Some(0)),
            ("1KiB", Some(1024)),
            ("64MiB", Some(64 << 20)),
            ("64MB", None),
            ("64", None),
            ("99999999TiB", None),
        ] {
            assert_eq!(
                ByteSize::from_text(text).ok(),
                bytes.map(ByteSize),
                "{text}"
            );
        }
        assert_eq!(ByteSize(1536).show(), "\"1536B\"");
        assert_eq!(ByteSize(4 << 20).show(), "\"4MiB\"");
    }

    #[test]
    fn addresses_and_voters() {
        assert_eq!(
            Voter::from_text("3@[::1]:19092").unwrap().show(),
            "\"3@[::1]:19092\""
        );
        for bad in [
            "",
            "1@",
            "0@h:1",
            "h:1",
            "1@h:0",
            "1@h:70000",
            "1@a b:1",
            "x@h:1",
        ] {
            assert!(Voter::from_text(bad).is_err(), "{bad}");
        }
        let two = Vec::<Voter>::from_text("1@a:1, 2@b:2").unwrap();
        assert_eq!(two.show(), "[\"1@a:1\", \"2@b:2\"]");
        assert!(SocketAddr::from_text("localhost:9092").is_err());
    }
}
