//! The reference of all options, `CONFIG.md`.

use super::{NodeOptions, variable};

const INTRODUCTION: &str = "\
# Configuration

The options of `weir serve`. This page is printed by `weir config docs`; a test keeps it true.

`weir serve --config FILE` reads one TOML file. Every option can also be set by its environment variable, which wins over the \
file. `weir config check FILE` says whether a file is right without starting anything. An unknown key or a bad value stops the node \
before it starts, with one line that names the key, the value and the remedy.

Durations are written with a unit (`250ms`, `30s`, `5m`, `2h`, `7d`), sizes too (`64KiB`, `4MiB`, `1GiB`); both in quotes. In an \
environment variable a list is separated by commas, and an optional value is unset by the empty text. Relative paths start at the working directory of \
the process. All options take effect when \
the node is restarted.

A node that would listen beyond loopback for clients or admins does not start without `--insecure` (or `WEIR_INSECURE=true`): \
client TLS and authentication do not exist yet. Node-to-node links are always mutually authenticated.

What topics get unless they say otherwise (partitions, replicas, retention, flush, replication) is no option of a node but a config \
of the cluster, agreed by all nodes, under Kafka's names: any Kafka admin client can read and change it.

Memory: glibc keeps a heap per thread. `MALLOC_ARENA_MAX=2` in the environment of the process keeps an idle node small; `weir dev` \
sets it for its nodes.
";

/// The text of the reference.
#[must_use]
pub fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    for section in NodeOptions::default().sections() {
        text.push_str(&format!(
            "\n## [{}]\n\n{}\n",
            section.name(),
            section.about().trim()
        ));
        for field in section.fields() {
            let default = if field.default.is_empty() {
                "none".to_owned()
            } else {
                format!("`{}`", section.show(field.key))
            };
            text.push_str(&format!(
                "\n### {section}.{key}\n{about}\n\n- {kind}; default {default}; bounds: {bounds}\n- change it {change}\n- `{variable}`; at restart\n",
                section = section.name(),
                key = field.key,
                about = field.about.trim(),
                kind = field.kind,
                bounds = field.bounds,
                change = field.change,
                variable = variable(section.name(), field.key),
            ));
        }
    }
    text
}
