//! What comes with the crates that Weir is built of: licences, sources, and no second
//! crate for the same thing.
//!
//! Known vulnerabilities are not looked for here: that needs a database from the network,
//! and a build must not fail for want of one.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// What may be linked into an Apache-2.0 binary. MPL-2.0 (foca) asks for the source of the
/// files it covers, which are on the registry as they are.
const LICENSES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-1-Clause",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "MIT",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates that must not come back, and what is there instead.
const BANNED: &[(&str, &str)] = &[
    ("aws-lc-rs", "ring"),
    ("aws-lc-sys", "ring"),
    ("native-tls", "rustls"),
    ("openssl", "rustls"),
    ("openssl-sys", "rustls"),
    ("zstd-sys", "ruzstd"),
    ("async-std", "tokio"),
];

/// Crates that there are several versions of, because dependencies have not moved on. The
/// list may only become shorter: a new one costs build time and bytes, and is looked at.
const SEVERAL: &[&str] = &[
    "base64",
    "cpufeatures",
    "embedded-io",
    "getrandom",
    "r-efi",
    "rand",
    "rand_chacha",
    "rand_core",
    "syn",
    "synstructure",
    "thiserror",
    "thiserror-impl",
    "toml_datetime",
    "windows-sys",
    "winnow",
];

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// A crate of the lock file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Crate {
    name: String,
    version: String,
    license: String,
    /// `None` in the workspace.
    source: Option<String>,
}

fn crates() -> Vec<Crate> {
    // Not `--offline`: of crates for other platforms no build here has fetched anything.
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))
        .output()
        .expect("cargo metadata");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let of = |package: &Value| Crate {
        name: text(&package["name"]).expect("a name"),
        version: text(&package["version"]).expect("a version"),
        license: text(&package["license"]).unwrap_or_default(),
        source: text(&package["source"]),
    };
    packages.iter().map(of).collect()
}

fn violations(crates: &[Crate]) -> Vec<String> {
    let mut found = Vec::new();
    let mut versions: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for one in crates {
        let Crate { name, version, .. } = one;
        if !is_allowed(&one.license) {
            found.push(format!("{name} {version}: licence \"{}\"", one.license));
        }
        if one.source.as_deref().is_some_and(|from| from != REGISTRY) {
            found.push(format!("{name} {version}: not from the registry"));
        }
        if let Some((_, instead)) = BANNED.iter().find(|(banned, _)| banned == name) {
            found.push(format!("{name} {version}: banned, use {instead}"));
        }
        versions.entry(name).or_default().insert(version);
    }
    for (name, versions) in &versions {
        let known = SEVERAL.contains(name);
        if versions.len() > 1 && !known {
            found.push(format!("{name}: several versions, {versions:?}"));
        }
    }
    for name in SEVERAL {
        if versions.get(name).is_none_or(|versions| versions.len() < 2) {
            found.push(format!("{name}: listed as having several versions"));
        }
    }
    found
}

/// Whether an SPDX expression can be satisfied with [`LICENSES`]. `/` is an older `OR`.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut words = spaced.split_whitespace().peekable();
    any_of(&mut words) && words.next().is_none()
}

type Words<'a> = std::iter::Peekable<std::str::SplitWhitespace<'a>>;

fn any_of(words: &mut Words<'_>) -> bool {
    let mut allowed = all_of(words);
    while words.next_if_eq(&"OR").is_some() {
        allowed |= all_of(words);
    }
    allowed
}

fn all_of(words: &mut Words<'_>) -> bool {
    let mut allowed = one(words);
    while words.next_if_eq(&"AND").is_some() {
        allowed &= one(words);
    }
    allowed
}

fn one(words: &mut Words<'_>) -> bool {
    if words.next_if_eq(&"(").is_some() {
        return any_of(words) & words.next_if_eq(&")").is_some();
    }
    let Some(name) = words.next() else {
        return false;
    };
    if words.next_if_eq(&"WITH").is_some() {
        let name = format!("{name} WITH {}", words.next().unwrap_or_default());
        return LICENSES.contains(&&*name);
    }
    LICENSES.contains(&name)
}

#[test]
fn every_dependency_is_one_we_may_and_want_to_have() {
    let crates = crates();
    assert!(crates.len() > 100, "{} crates", crates.len());
    assert_eq!(violations(&crates), Vec::<String>::new());
}

#[test]
fn what_is_not_allowed_is_found() {
    let good = |name: &str, version: &str| Crate {
        name: name.to_owned(),
        version: version.to_owned(),
        license: "MIT".to_owned(),
        source: Some(REGISTRY.to_owned()),
    };
    let known = SEVERAL
        .iter()
        .flat_map(|name| [good(name, "1"), good(name, "2")]);
    let mut crates: Vec<Crate> = known.collect();
    crates.push(good("a", "1"));
    assert_eq!(violations(&crates), Vec::<String>::new());
    crates.push(good("a", "2"));
    crates.push(good("openssl", "1"));
    crates.push(Crate {
        license: "GPL-3.0".to_owned(),
        source: Some("git+https://example.org/b".to_owned()),
        ..good("b", "1")
    });
    crates.retain(|one| one.name != SEVERAL[0] || one.version == "1");
    assert_eq!(
        violations(&crates),
        [
            "openssl 1: banned, use rustls",
            "b 1: licence \"GPL-3.0\"",
            "b 1: not from the registry",
            "a: several versions, {\"1\", \"2\"}",
            "base64: listed as having several versions",
        ]
    );
}

#[test]
fn licence_expressions_are_understood() {
    for allowed in [
        "MIT",
        "MIT OR GPL-3.0",
        "GPL-3.0/MIT",
        "(GPL-3.0 OR MIT) AND ISC",
        "Apache-2.0 WITH LLVM-exception OR GPL-3.0",
        "MIT OR Apache-2.0 AND GPL-3.0",
    ] {
        assert!(is_allowed(allowed), "{allowed}");
    }
    for refused in [
        "",
        "GPL-3.0",
        "MIT AND GPL-3.0",
        "MIT ISC",
        "(MIT",
        "MIT WITH x",
    ] {
        assert!(!is_allowed(refused), "{refused}");
    }
}
