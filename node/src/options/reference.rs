//! The reference of all options, `CONFIG.md`.

use clap::{Args, Command};

use super::{NodeOptions, variable};
use crate::dev::DevArgs;
use crate::serve::ServeArgs;

const INTRODUCTION: &str = "\
# Configuration

The options of `weir serve`, and of the command line of `weir dev`. This page is printed by `weir config docs`; a test keeps it true.

`weir serve --config FILE` reads one TOML file. Every option can also be set by its environment variable, which wins over the \
file. `weir config check FILE` says whether a file is right without starting anything. An unknown key or a bad value stops the node \
before it starts, with one line that names the key, the value and the remedy. So does a variable that begins as an option's does and is \
none (`WEIR_KAFKA_LISTN`), but for those that orchestrators set by themselves (`WEIR_KAFKA_PORT`, `WEIR_KAFKA_SERVICE_HOST`): these are ignored with a warning.

Durations are written with a unit (`250ms`, `30s`, `5m`, `2h`, `7d`), sizes too (`64KiB`, `4MiB`, `1GiB`); both in quotes. In an \
environment variable a list is separated by commas, and an optional value is unset by the empty text. Relative paths start at the working directory of \
the process. All options take effect when \
the node is restarted.

A node that would listen beyond loopback for clients or admins does not start without `--insecure` (or `WEIR_INSECURE=true`): \
client TLS and authentication do not exist yet. Node-to-node links are always mutually authenticated.

What topics get unless they say otherwise (partitions, replicas, retention, flush, replication) is no option of a node but a config \
of the cluster, agreed by all nodes, under Kafka's names: any Kafka admin client can read and change it.

Memory: a node lets glibc keep two heaps, and give back what is freed of 1 MiB and more. `MALLOC_ARENA_MAX` and \
`MALLOC_MMAP_THRESHOLD_` in the environment of the process say otherwise.
";

/// The text of the reference.
#[must_use]
pub fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    let serve = ServeArgs::augment_args(Command::new("weir serve"));
    let dev = DevArgs::augment_args(Command::new("weir dev"));
    for command in [serve, dev] {
        command_line(&command, &mut text);
    }
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

/// What a command can be told, from the declaration that reads it.
fn command_line(command: &Command, text: &mut String) {
    text.push_str(&format!(
        "\n## {}\n\nOn the command line, or by variable.\n\n| option | variable | what |\n|---|---|---|\n",
        command.get_name()
    ));
    for argument in command.get_arguments().filter(|a| !a.is_hide_set()) {
        let mut option = format!("--{}", argument.get_long().unwrap_or_default());
        // A flag has a default too, and takes no value.
        let takes_value = argument.get_action().takes_values();
        if takes_value && let Some(names) = argument.get_value_names() {
            option.extend(names.iter().map(|name| format!(" {name}")));
        }
        let variable = argument.get_env().unwrap_or_default().to_string_lossy();
        let help = argument.get_help().map(ToString::to_string);
        let mut what = help.unwrap_or_default();
        if takes_value && let Some(default) = argument.get_default_values().first() {
            what.push_str(&format!("; default `{}`", default.to_string_lossy()));
        }
        text.push_str(&format!("| `{option}` | `{variable}` | {what} |\n"));
    }
}
