//! Which node to ask.

use std::fs;
use std::path::Path;

use anyhow::{Result, bail};
use serde::Deserialize;

/// Where `weir dev` says what it runs, unless told otherwise.
const CLUSTER_FILE: &str = "weir-data/cluster.json";
const DEFAULT: &str = "127.0.0.1:8080";

#[derive(Deserialize)]
struct ClusterFile {
    nodes: Vec<ClusterFileNode>,
}

#[derive(Deserialize)]
struct ClusterFileNode {
    admin: String,
}

/// Admin addresses to try in turn.
pub(crate) fn addresses(told: Option<&str>) -> Result<Vec<String>> {
    match told {
        Some(told) => told_addresses(told),
        None => Ok(from_file(Path::new(CLUSTER_FILE))),
    }
}

/// One address, or several separated by commas.
fn told_addresses(told: &str) -> Result<Vec<String>> {
    let addresses = told.split(',').map(str::trim).map(|address| {
        let bare = address.strip_prefix("http://").unwrap_or(address);
        let bare = bare.trim_end_matches('/');
        match bare.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() && port.parse::<u16>().is_ok() => {
                Ok(bare.to_owned())
            }
            _ => bail!("--admin {told}: write host:port, such as {DEFAULT}"),
        }
    });
    addresses.collect()
}

fn from_file(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    // No such file, or one that is none of ours: there is the default.
    let cluster: Option<ClusterFile> = serde_json::from_str(&text).ok();
    let nodes = cluster.map(|cluster| cluster.nodes).unwrap_or_default();
    if nodes.is_empty() {
        return vec![DEFAULT.to_owned()];
    }
    nodes.into_iter().map(|node| node.admin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_told_found_or_the_default() {
        assert_eq!(
            told_addresses("http://[::1]:80/, b:1").unwrap(),
            ["[::1]:80", "b:1"]
        );
        for bad in ["", "host", "host:", ":80", "h:99999", "a:1,"] {
            assert!(told_addresses(bad).is_err(), "{bad}");
        }
        assert_eq!(from_file(Path::new("/nonexistent")), [DEFAULT]);
    }
}
