//! DNS names of the endpoints file, resolved again and again.
//!
//! A name that cannot be resolved keeps its last answer for [`KEEP_FAILED_FOR`]: a DNS server that is restarted must
//! not take the pods away. A name that resolves to other addresses changes at once.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use futures::StreamExt;

use super::file::{ENDPOINTS_MAX, Entry, Host};
use super::{Endpoint, EndpointSet};
use crate::metrics::Metrics;

/// How long one resolution may take; the next round asks again.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(2);

/// How long a name that fails to resolve keeps its last answer. Cluster DNS is back within a minute; pods that are
/// really gone show in their event streams long before.
const KEEP_FAILED_FOR: Duration = Duration::from_secs(300);

/// Names resolved at the same time: each takes a thread of the runtime's blocking pool.
const LOOKUPS_AT_ONCE: usize = 16;

/// The last good answer of each name.
#[derive(Default)]
pub struct Names {
    answers: HashMap<String, Answer>,
}

struct Answer {
    addresses: BTreeSet<IpAddr>,
    at: Instant,
}

/// What a lookup came to: addresses, or why there are none.
type Lookup = Result<BTreeSet<IpAddr>, String>;

impl Names {
    /// Resolves every name of `entries` and forgets the names that are gone.
    pub async fn refresh(&mut self, entries: &[Entry], metrics: &Metrics) {
        let names: BTreeSet<String> = entries.iter().filter_map(name).map(str::to_owned).collect();
        let lookups: Vec<(String, Lookup)> = futures::stream::iter(names)
            .map(async |name: String| {
                let answer = lookup(&name).await;
                (name, answer)
            })
            .buffer_unordered(LOOKUPS_AT_ONCE)
            .collect()
            .await;
        self.answers.retain(|known, _| lookups.iter().any(|(name, _)| name == known));
        let now = Instant::now();
        for (name, lookup) in lookups {
            if let Some(reason) = self.learn(&name, lookup, now) {
                metrics.resolve_failures.inc();
                log::warn!(name = name.as_str(), reason = reason.as_str(); "DNS name not resolved");
            }
        }
    }

    /// Takes in one answer; returns why it failed, if it did.
    fn learn(&mut self, name: &str, lookup: Lookup, now: Instant) -> Option<String> {
        match lookup {
            Ok(addresses) => {
                self.answers.insert(name.to_owned(), Answer { addresses, at: now });
                None
            }
            Err(reason) => {
                self.answers
                    .retain(|known, answer| known != name || now.duration_since(answer.at) < KEEP_FAILED_FOR);
                Some(reason)
            }
        }
    }

    /// The endpoints that `entries` mean with the answers of now; an address counts once, by its first entry.
    pub fn endpoints(&self, entries: &[Entry], metrics: &Metrics) -> EndpointSet {
        let mut seen = std::collections::HashSet::new();
        let mut set: EndpointSet = entries
            .iter()
            .flat_map(|entry| self.addresses(entry).into_iter().map(|ip| entry.endpoint(ip)))
            .filter(|endpoint: &Endpoint| seen.insert(endpoint.address.clone()))
            .collect();
        if set.len() > ENDPOINTS_MAX {
            metrics.endpoints_cut.inc_by((set.len() - ENDPOINTS_MAX) as u64);
            set.truncate(ENDPOINTS_MAX);
        }
        set
    }

    fn addresses(&self, entry: &Entry) -> Vec<IpAddr> {
        match &entry.host {
            Host::Ip(ip) => vec![*ip],
            Host::Name(name) => self
                .answers
                .get(name)
                .map(|answer| answer.addresses.iter().copied().collect())
                .unwrap_or_default(),
        }
    }
}

fn name(entry: &Entry) -> Option<&str> {
    match &entry.host {
        Host::Ip(_) => None,
        Host::Name(name) => Some(name),
    }
}

async fn lookup(name: &str) -> Lookup {
    // The port only completes the call; answers are used without it.
    let answer = tokio::time::timeout(LOOKUP_DEADLINE, tokio::net::lookup_host((name, 1))).await;
    match answer {
        Ok(Ok(addresses)) => Ok(addresses.map(|address| address.ip()).collect()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {} s", LOOKUP_DEADLINE.as_secs())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn a_failing_name_keeps_its_last_answer_for_a_while() {
        let text = "endpoints: [{address: 'pods:80', model: m}, {address: '10.0.0.2:80', model: m}]";
        let entries = super::super::file::parse(text, Path::new("e")).unwrap();
        let metrics = Metrics::default();
        let shown = |names: &Names| {
            names.endpoints(&entries, &metrics).into_iter().map(|e| e.address.to_string()).collect::<Vec<_>>()
        };
        let start = Instant::now();
        let mut names = Names::default();
        assert_eq!(shown(&names), ["10.0.0.2:80"]);
        let answer: BTreeSet<IpAddr> = ["10.0.0.1", "10.0.0.2"].map(|ip| ip.parse().unwrap()).into();
        assert_eq!(names.learn("pods", Ok(answer), start), None);
        assert_eq!(shown(&names), ["10.0.0.1:80", "10.0.0.2:80"]);
        let soon = start + KEEP_FAILED_FOR - Duration::from_secs(1);
        assert_eq!(names.learn("pods", Err("down".into()), soon), Some("down".into()));
        assert_eq!(shown(&names), ["10.0.0.1:80", "10.0.0.2:80"]);
        names.learn("pods", Err("down".into()), start + KEEP_FAILED_FOR);
        assert_eq!(shown(&names), ["10.0.0.2:80"]);
    }
}
