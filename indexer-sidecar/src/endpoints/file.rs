//! The endpoints file: which pods there are, as an operator writes it down.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;

use super::{Endpoint, RankSource};
use crate::config::{ConfigError, from_yaml};

/// Entries of one file, and endpoints in all: one index serves up to 4,000 pods.
pub const ENDPOINTS_MAX: usize = 4096;

/// Data-parallel ranks of one endpoint: more than any deployment runs behind one port.
const RANKS_MAX: u32 = 256;

/// vLLM's default for `--kv-events-config` `endpoint`.
const EVENTS_DEFAULT: &str = ":5557";

/// The port that vLLM's documentation uses for `replay_endpoint`.
const REPLAY_DEFAULT: &str = ":5558";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    endpoints: Vec<RawEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEntry {
    address: String,
    model: String,
    #[serde(default = "events_default")]
    events: String,
    #[serde(default = "replay_default")]
    replay: Option<String>,
    #[serde(default = "one")]
    data_parallel_ranks: u32,
    /// The engine's own number; the GPU's counts of a rank are held to it.
    #[serde(default)]
    num_gpu_blocks: Option<u64>,
    /// Where the engine is asked for that number if it is not given; null: nobody is asked.
    #[serde(default = "own_address")]
    metrics: Option<String>,
}

/// Written as no address at all: the endpoint's own.
fn own_address() -> Option<String> {
    Some(String::new())
}

fn events_default() -> String {
    EVENTS_DEFAULT.to_owned()
}

fn replay_default() -> Option<String> {
    Some(REPLAY_DEFAULT.to_owned())
}

fn one() -> u32 {
    1
}

/// One checked entry of the file: an address, or a DNS name that stands for several.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Host of the address.
    pub host: Host,
    /// Port of the address.
    pub port: u16,
    /// Name of the model definition that it serves.
    pub model: Arc<str>,
    events: Source,
    replay: Option<Source>,
    ranks: u32,
    num_gpu_blocks: Option<u64>,
    metrics: Option<Source>,
}

/// Host of an entry's address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Host {
    /// An address.
    Ip(IpAddr),
    /// A DNS name: one endpoint per address that it resolves to.
    Name(String),
}

/// Where a socket of rank 0 is.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Source {
    /// `None`: at the endpoint's own address.
    ip: Option<IpAddr>,
    port: u16,
}

impl Source {
    fn at(&self, own: IpAddr, rank: u32) -> String {
        address(self.ip.unwrap_or(own), self.port + rank as u16)
    }
}

/// "ip:port", or "[ip]:port" for IPv6.
fn address(ip: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(ip, port).to_string()
}

impl Entry {
    /// The endpoint that this entry means at the address `ip`.
    pub fn endpoint(&self, ip: IpAddr) -> Endpoint {
        let ranks = (0..self.ranks).map(|rank| RankSource {
            rank,
            events: self.events.at(ip, rank),
            replay: self.replay.as_ref().map(|replay| replay.at(ip, rank)),
            num_gpu_blocks: self.num_gpu_blocks,
            // All ranks of an endpoint are told of by its one HTTP port.
            metrics: self.metrics.as_ref().map(|metrics| metrics.at(ip, 0)),
        });
        Endpoint {
            address: address(ip, self.port).into(),
            model: Arc::clone(&self.model),
            ranks: ranks.collect(),
        }
    }
}

/// Checks the text of an endpoints file; `file` names it in errors.
pub fn parse(text: &str, file: &Path) -> Result<Vec<Entry>, ConfigError> {
    let raw: File = from_yaml(text, file)?;
    if raw.endpoints.len() > ENDPOINTS_MAX {
        let message = format!("{} entries: at most {ENDPOINTS_MAX}", raw.endpoints.len());
        return Err(ConfigError::new(file, "endpoints", message));
    }
    let mut seen = HashSet::new();
    let mut entries = Vec::with_capacity(raw.endpoints.len());
    for (position, raw) in raw.endpoints.into_iter().enumerate() {
        let fail = |(key, message): (&str, String)| {
            ConfigError::new(file, format!("endpoints[{position}].{key}"), message)
        };
        if !seen.insert(raw.address.clone()) {
            return Err(fail(("address", format!("{:?} is there twice: keep one entry", raw.address))));
        }
        entries.push(entry(raw).map_err(fail)?);
    }
    Ok(entries)
}

fn entry(raw: RawEntry) -> Result<Entry, (&'static str, String)> {
    let (host, port) = split(&raw.address).map_err(|message| ("address", message))?;
    if host.is_empty() {
        return Err(("address", format!("{:?} has no host: write ip:port or name:port", raw.address)));
    }
    if raw.model.is_empty() {
        return Err(("model", "is empty: name a model of the configuration".into()));
    }
    if raw.data_parallel_ranks == 0 || raw.data_parallel_ranks > RANKS_MAX {
        return Err(("data_parallel_ranks", format!("{}: give 1 to {RANKS_MAX}", raw.data_parallel_ranks)));
    }
    let ranks = raw.data_parallel_ranks;
    let source = |key, text: &str| source(text, host, ranks).map_err(|message| (key, message));
    let events = source("events", &raw.events)?;
    let replay = raw.replay.as_deref().map(|replay| source("replay", replay)).transpose()?;
    let metrics = match raw.metrics.as_deref() {
        None => None,
        Some("") => Some(Source { ip: None, port }),
        Some(text) => Some(self::source(text, host, 1).map_err(|message| ("metrics", message))?),
    };
    if raw.num_gpu_blocks == Some(0) {
        return Err((
            "num_gpu_blocks",
            "0: give the engine's number, or leave it out if it is not known".into(),
        ));
    }
    let num_gpu_blocks = raw.num_gpu_blocks;
    let host = host.parse().map_or_else(|_| Host::Name(host.to_owned()), Host::Ip);
    Ok(Entry { host, port, model: raw.model.into(), events, replay, ranks, num_gpu_blocks, metrics })
}

/// A socket: `:PORT` or `HOST:PORT`, where the host is an address or the entry's own host.
fn source(text: &str, own: &str, ranks: u32) -> Result<Source, String> {
    let (host, port) = split(text)?;
    if u32::from(port) + ranks - 1 > u32::from(u16::MAX) {
        return Err(format!("{text:?}: port {port} plus {ranks} ranks goes beyond 65535"));
    }
    if host.is_empty() || host == own {
        return Ok(Source { ip: None, port });
    }
    let ip = host.parse().map_err(|_| {
        format!("{text:?}: {host:?} is no IP address: write ip:port, or \":{port}\" for the endpoint's own address")
    })?;
    Ok(Source { ip: Some(ip), port })
}

/// Splits `host:port`; brackets around an IPv6 address are taken off. Port 0 is none.
fn split(text: &str) -> Result<(&str, u16), String> {
    let wrong = || format!("{text:?} is not host:port (IPv6 addresses in brackets)");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
    match host.strip_prefix('[') {
        Some(rest) => Ok((rest.strip_suffix(']').ok_or_else(wrong)?, port)),
        None if host.contains(':') || host.contains('/') => Err(wrong()),
        None => Ok((host, port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Vec<Entry>, String> {
        parse(text, Path::new("e.yaml")).map_err(|error| error.to_string())
    }

    #[test]
    fn ports_count_up_with_the_rank_and_hosts_default_to_the_endpoint() {
        let text = "endpoints:\n- {address: 10.0.0.1:8000, model: m, data_parallel_ranks: 2, replay: '10.9.9.9:7000'}\n";
        let endpoint = parsed(text).unwrap()[0].endpoint("10.0.0.1".parse().unwrap());
        assert_eq!(&*endpoint.address, "10.0.0.1:8000");
        let sources: Vec<_> =
            endpoint.ranks.iter().map(|r| (r.rank, r.events.as_str(), r.replay.as_deref())).collect();
        assert_eq!(
            sources,
            [(0, "10.0.0.1:5557", Some("10.9.9.9:7000")), (1, "10.0.0.1:5558", Some("10.9.9.9:7001"))]
        );
    }

    #[test]
    fn a_name_keeps_its_sources_at_the_resolved_address() {
        let text =
            "endpoints:\n- {address: 'pods.svc:8000', model: m, events: 'pods.svc:5600', replay: null}\n";
        let entry = &parsed(text).unwrap()[0];
        assert_eq!(entry.host, Host::Name("pods.svc".into()));
        let endpoint = entry.endpoint("fd00::1".parse().unwrap());
        assert_eq!(&*endpoint.address, "[fd00::1]:8000");
        assert_eq!(endpoint.ranks[0].events, "[fd00::1]:5600");
        assert_eq!(endpoint.ranks[0].replay, None);
    }

    #[test]
    fn errors_name_the_entry_and_what_to_do() {
        let cases = [
            ("endpoints: [{address: '1.2.3.4:1', model: m, port: 1}]", "endpoints[0].port: "),
            (
                "endpoints: [{address: '1.2.3.4', model: m}]",
                "endpoints[0].address: \"1.2.3.4\" is not host:port",
            ),
            ("endpoints: [{address: '1.2.3.4:0', model: m}]", "endpoints[0].address: "),
            ("endpoints: [{address: ':80', model: m}]", "endpoints[0].address: \":80\" has no host"),
            (
                "endpoints: [{address: 'a:1', model: m, events: 'b:1'}]",
                "endpoints[0].events: \"b:1\": \"b\" is no IP",
            ),
            (
                "endpoints: [{address: 'a:1', model: m, events: ':65535', data_parallel_ranks: 2}]",
                "endpoints[0].events: \":65535\": port 65535 plus 2 ranks",
            ),
            ("endpoints: [{address: 'a:1', model: m}, {address: 'a:1', model: m}]", "endpoints[1].address: "),
            (
                "endpoints: [{address: 'a:1', model: m, data_parallel_ranks: 0}]",
                "endpoints[0].data_parallel_ranks",
            ),
        ];
        for (text, expected) in cases {
            let error = parsed(text).unwrap_err();
            assert!(error.starts_with("e.yaml: ") && error.contains(expected), "{text}: {error}");
        }
    }
}
