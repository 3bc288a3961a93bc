//! Reading: defaults, then the file, then the environment, then the checks.

use std::collections::BTreeMap;
use std::fmt;

use toml::de::{DeTable, DeValue};

use super::section::Input;
use super::{NodeOptions, Section, variable};

/// Environment variables by name.
pub type Environment = BTreeMap<String, String>;

/// Options, and what is odd but no error.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The options, checked.
    pub options: NodeOptions,
    /// One line each: variables that look like options and were set by an orchestrator.
    pub warnings: Vec<String>,
}

/// What is wrong with the options, as one line: where, what, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptionsError {
    /// `weir.toml:12`, or the environment variable.
    pub place: String,
    /// The option, `section.key`.
    pub key: String,
    /// Its value as it was written, if it has one.
    pub value: Option<String>,
    /// What is wrong and what to write instead.
    pub problem: String,
}

impl fmt::Display for OptionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        if !self.key.is_empty() {
            f.write_str(": ")?;
        }
        f.write_str(&self.problem)
    }
}

impl std::error::Error for OptionsError {}

/// Reads options from a file's text (with its name, for errors) and the environment.
///
/// # Errors
/// The first thing that is wrong.
pub fn load(file: Option<(&str, &str)>, environment: &Environment) -> Result<Loaded, OptionsError> {
    let mut options = NodeOptions::default();
    // Where each option was set, so that a check of several options can say it.
    let mut places = BTreeMap::new();
    if let Some((name, text)) = file {
        from_file(&mut options, name, text, &mut places)?;
    }
    let warnings = from_environment(&mut options, environment, &mut places)?;
    options.validate().map_err(|invalid| OptionsError {
        place: places.get(invalid.key).cloned().unwrap_or_default(),
        key: invalid.key.to_owned(),
        value: Some(options.show(invalid.key)).filter(|value| !value.is_empty()),
        problem: invalid.problem,
    })?;
    Ok(Loaded { options, warnings })
}

fn from_file(
    options: &mut NodeOptions,
    name: &str,
    text: &str,
    places: &mut BTreeMap<String, String>,
) -> Result<(), OptionsError> {
    let line = |start: usize| {
        let before = text.as_bytes().iter().take(start);
        format!("{name}:{}", before.filter(|b| **b == b'\n').count() + 1)
    };
    let written = |span: std::ops::Range<usize>| {
        let value = text.get(span)?.split_whitespace().collect::<Vec<_>>();
        Some(value.join(" "))
    };
    let table = DeTable::parse(text).map_err(|error| OptionsError {
        place: line(error.span().map_or(0, |span| span.start)),
        key: String::new(),
        value: None,
        problem: format!(
            "not TOML: {}",
            error.message().lines().collect::<Vec<_>>().join("; ")
        ),
    })?;
    for (section_name, body) in table.get_ref() {
        let place = line(section_name.span().start);
        let name = section_name.get_ref().as_ref();
        let mut sections = options.sections_mut();
        let Some(section) = sections.iter_mut().find(|s| s.name() == name) else {
            let known: Vec<_> = sections.iter().map(|s| s.name()).collect();
            return Err(unknown(place, name, "section", &known));
        };
        let DeValue::Table(keys) = body.get_ref() else {
            return Err(OptionsError {
                place,
                key: name.to_owned(),
                value: written(body.span()),
                problem: format!("this is a section: write [{name}] and its keys below"),
            });
        };
        for (key, value) in keys {
            let place = line(key.span().start);
            let key = key.get_ref().as_ref();
            let path = format!("{name}.{key}");
            if !section.fields().iter().any(|field| field.key == key) {
                let known = paths(&**section);
                return Err(unknown(place, &path, "option", &known));
            }
            section
                .set(key, Input::Toml(value.get_ref()))
                .map_err(|problem| OptionsError {
                    place: place.clone(),
                    key: path.clone(),
                    value: written(value.span()),
                    problem,
                })?;
            places.insert(path, place);
        }
    }
    Ok(())
}

fn from_environment(
    options: &mut NodeOptions,
    environment: &Environment,
    places: &mut BTreeMap<String, String>,
) -> Result<Vec<String>, OptionsError> {
    let mut known = Vec::new();
    let mut prefixes = Vec::new();
    for section in options.sections_mut() {
        prefixes.push(variable(section.name(), ""));
        for field in section.fields() {
            let name = variable(section.name(), field.key);
            if let Some(text) = environment.get(&name) {
                let path = format!("{}.{}", section.name(), field.key);
                section
                    .set(field.key, Input::Text(text))
                    .map_err(|problem| OptionsError {
                        place: format!("environment variable {name}"),
                        key: path.clone(),
                        value: Some(format!("{text:?}")),
                        problem,
                    })?;
                places.insert(path, format!("environment variable {name}"));
            }
            known.push(name);
        }
    }
    let known: Vec<_> = known.iter().map(String::as_str).collect();
    let strays = environment.keys().filter(|name| {
        let is_ours = prefixes.iter().any(|p| name.starts_with(p.as_str()));
        is_ours && !known.contains(&name.as_str())
    });
    let mut warnings = Vec::new();
    for name in strays {
        if is_service_link(name) {
            warnings.push(format!(
                "environment variable {name} is no option and is ignored"
            ));
            continue;
        }
        let hint = nearest(name, &known);
        let remedy = if hint.is_empty() {
            "; unset it, or see `weir config docs`"
        } else {
            &hint
        };
        return Err(OptionsError {
            place: format!("environment variable {name}"),
            key: String::new(),
            value: None,
            problem: format!("no such option{remedy}"),
        });
    }
    Ok(warnings)
}

/// Whether an orchestrator sets such a variable by itself, for a service that happens to
/// be called `weir-kafka`: `WEIR_KAFKA_SERVICE_HOST`, `WEIR_KAFKA_PORT_9092_TCP`.
fn is_service_link(name: &str) -> bool {
    let is_port = |rest: &str| {
        let number = rest.strip_prefix('_');
        rest.is_empty() || number.is_some_and(|n| n.starts_with(|c: char| c.is_ascii_digit()))
    };
    ["_SERVICE_HOST", "_SERVICE_PORT"]
        .iter()
        .any(|part| name.contains(part))
        || (name.split_once("_PORT")).is_some_and(|(_, rest)| is_port(rest))
}

fn paths(section: &dyn Section) -> Vec<String> {
    let name = section.name();
    section
        .fields()
        .iter()
        .map(|field| format!("{name}.{}", field.key))
        .collect()
}

fn unknown<S: AsRef<str>>(place: String, key: &str, what: &str, known: &[S]) -> OptionsError {
    let known: Vec<&str> = known.iter().map(S::as_ref).collect();
    let hint = nearest(key, &known);
    let problem = if hint.is_empty() {
        format!("no such {what}; known are {}", known.join(", "))
    } else {
        format!("no such {what}{hint}")
    };
    OptionsError {
        place,
        key: key.to_owned(),
        value: None,
        problem,
    }
}

/// `; did you mean X?`, if something known is near.
fn nearest(name: &str, known: &[&str]) -> String {
    known
        .iter()
        .map(|candidate| (distance(name, candidate), candidate))
        .min()
        .filter(|(edits, _)| *edits <= 1 + name.len() / 5)
        .map(|(_, candidate)| format!("; did you mean {candidate}?"))
        .unwrap_or_default()
}

/// Levenshtein distance in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(&b) {
            let above = *cell;
            left = (diagonal + usize::from(from != *to))
                .min(above + 1)
                .min(left + 1);
            diagonal = above;
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}
