//! The file of seeds that failed once (`seeds.txt`): one a line, with what it ran with, and
//! why it failed.
//!
//! ```text
//!   # a comment
//!   2144 the last copy rotted
//!   2144 --queues a bad copy hid all queues of its node
//!   3 --focus lost-tails why
//! ```
//! Blanks in the name of a focus are hyphens here.

use std::path::Path;

use anyhow::{Context, Result, bail};

use super::one::One;
use crate::focus;

/// All of them, in the order of the file.
///
/// # Errors
/// If it cannot be read, or a line is none of a seed: names it.
pub(super) fn read(path: &Path) -> Result<Vec<One>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let lines = lines.filter(|line| !line.trim().is_empty());
    lines
        .map(|line| seed(line).with_context(|| format!("{}: {line}", path.display())))
        .collect()
}

fn seed(line: &str) -> Result<One> {
    let mut words = line.split_whitespace();
    let number = words.next().context("no seed")?;
    let mut one = One::new(
        number
            .parse()
            .with_context(|| format!("no seed: {number}"))?,
    );
    while let Some(word) = words.next() {
        match word {
            "--queues" => one.queues = true,
            "--focus" => {
                let name = words
                    .next()
                    .context("a focus has a name")?
                    .replace('-', " ");
                one.focus = Some(focus::named(&name)?.name.to_owned());
            }
            unknown if unknown.starts_with("--") => bail!("no seed runs with {unknown}"),
            _ => break,
        }
    }
    Ok(one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_seed_what_it_ran_with_and_why_it_failed() {
        let arguments = |line| seed(line).unwrap().arguments().join(" ");
        assert_eq!(arguments("7"), "--seed 7");
        assert_eq!(arguments("7 it --queues was why"), "--seed 7");
        assert_eq!(arguments("7 --queues why"), "--seed 7 --queues");
        let both = arguments("7 --focus lost-tails --queues");
        assert_eq!(both, "--seed 7 --focus lost tails --queues");
        for bad in ["x", "7 --focus", "7 --focus nothing", "7 --spoilt"] {
            assert!(seed(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_saved_seed_is_one() {
        let saved = read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/seeds.txt")));
        assert!(saved.unwrap().iter().all(|one| one.plan().is_ok()));
    }
}
