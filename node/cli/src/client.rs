//! The admin API, as the command line uses it.

use std::fmt;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::{Method, Request, StatusCode};
use ureq::{Agent, Error};
use weir_api::console::{ClusterView, NOT_READY, Problem, SILENT_HEADER};

use crate::Session;

/// Longer than any node takes to say that it does not know.
const TIMEOUT: Duration = Duration::from_secs(30);
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// A group may move while it is asked for, but not for ever.
const REDIRECTS_MAX: usize = 3;

/// A node refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused(pub Problem);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.0.message, self.0.remedy)
    }
}

impl std::error::Error for Refused {}

/// Asks nodes.
pub(crate) struct Client {
    agent: Agent,
    addresses: Vec<String>,
}

impl Client {
    pub(crate) fn new(addresses: Vec<String>) -> Self {
        let config = Agent::config_builder()
            .timeout_global(Some(TIMEOUT))
            // A redirect names a node by its address; the request is then sent whole.
            .max_redirects(0)
            .http_status_as_error(false)
            .build();
        Self {
            agent: config.into(),
            addresses,
        }
    }

    /// Asks the first node that can be reached.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.send(Method::GET, path, None::<&()>)
    }

    /// Asks this node.
    pub(crate) fn get_from<T: DeserializeOwned>(&self, address: &str, path: &str) -> Result<T> {
        let answer = self.exchange(address, &Method::GET, path, Vec::new())?;
        if let Some(silent) = &answer.silent {
            Session::warn(&format!(
                "{address} leads partitions that do not answer, and what they have is missing: {silent}"
            ));
        }
        read(address, answer)
    }

    /// Sends a request to the first node that can be reached and has started, and on to
    /// the one that it names.
    pub(crate) fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<T> {
        let body = body
            .map(serde_json::to_vec)
            .transpose()?
            .unwrap_or_default();
        let (mut address, mut answer) = self.first(&method, path, &body)?;
        for _ in 0..REDIRECTS_MAX {
            let Some(next) = answer.redirect() else {
                break;
            };
            answer = self
                .exchange(&next, &method, path, body.clone())
                .with_context(|| format!("{address} names it"))?;
            address = next;
        }
        read(&address, answer)
    }

    pub(crate) fn cluster(&self) -> Result<ClusterView> {
        self.get("/v1/cluster")
    }

    fn first(&self, method: &Method, path: &str, body: &[u8]) -> Result<(String, Answer)> {
        let (mut failed, mut starting) = (Vec::new(), None);
        for address in &self.addresses {
            match self.exchange(address, method, path, body.to_vec()) {
                Ok(answer) if answer.is_starting() => starting = Some((address.clone(), answer)),
                Ok(answer) => return Ok((address.clone(), answer)),
                Err(error) if surely_not_sent(&error) => failed.push(format!("{error:#}")),
                Err(error) => return Err(error),
            }
        }
        if let Some(found) = starting {
            return Ok(found);
        }
        bail!(
            "no node answers: {}; start one with `weir dev`, or name one with --admin host:port",
            failed.join(", ")
        )
    }

    fn exchange(
        &self,
        address: &str,
        method: &Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Answer> {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://{address}{path}"))
            .header("content-type", "application/json")
            .body(body)
            .with_context(|| format!("--admin {address}"))?;
        let mut response = self
            .agent
            .run(request)
            .map_err(|error| anyhow!(error).context(address.to_owned()))?;
        let status = response.status();
        let silent = response.headers().get(SILENT_HEADER);
        let silent = silent.and_then(|value| value.to_str().ok().map(str::to_owned));
        let body = response
            .body_mut()
            .with_config()
            .limit(ANSWER_BYTES_MAX)
            .read_to_vec()
            .map_err(|error| anyhow!("{address}: the answer broke off: {error}"))?;
        Ok(Answer {
            status,
            body,
            silent,
        })
    }
}

struct Answer {
    status: StatusCode,
    body: Vec<u8>,
    /// Partitions of which a list says nothing.
    silent: Option<String>,
}

impl Answer {
    fn problem(&self) -> Option<Problem> {
        serde_json::from_slice(&self.body).ok()
    }

    /// Whether the node does nothing yet, so that another may be asked.
    fn is_starting(&self) -> bool {
        self.status == StatusCode::SERVICE_UNAVAILABLE
            && self.problem().is_some_and(|p| p.error == NOT_READY)
    }

    fn redirect(&self) -> Option<String> {
        if self.status != StatusCode::TEMPORARY_REDIRECT {
            return None;
        }
        self.problem()?.redirect
    }
}

fn read<T: DeserializeOwned>(address: &str, answer: Answer) -> Result<T> {
    if answer.status.is_success() {
        return serde_json::from_slice(&answer.body).with_context(|| {
            format!("{address}: its answer is not understood; is it another version?")
        });
    }
    match answer.problem() {
        Some(problem) => Err(Refused(problem).into()),
        None => bail!("{address} answers {} and is no node of weir", answer.status),
    }
}

/// Whether the request cannot have reached a node, so that another may be asked.
fn surely_not_sent(error: &anyhow::Error) -> bool {
    match error.downcast_ref::<Error>() {
        Some(Error::Io(error)) => error.kind() == std::io::ErrorKind::ConnectionRefused,
        Some(Error::ConnectionFailed | Error::HostNotFound) => true,
        Some(_) | None => false,
    }
}

/// A name as one segment of a path.
pub(crate) fn segment(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    // A segment of dots would be taken for a way up.
    match text.as_str() {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_is_one_segment() {
        assert_eq!(segment("a/b c%ä"), "a%2Fb%20c%25%C3%A4");
        assert_eq!(segment("order.created-1_x~"), "order.created-1_x~");
        assert_eq!(segment(".."), "%2E%2E");
    }
}
