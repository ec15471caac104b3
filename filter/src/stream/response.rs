//! The response of one request and its end: what is told to the sidecar about its pick. Nothing here holds or changes
//! the response.

use warmpath_proto::v1::{PickReport, Stage};

use super::{Phase, REASON_STATE, Stream};
use crate::host::Host;
use crate::metrics::Counter;
use crate::outcome::Reason;

impl Stream {
    /// The response's headers. A response while the request is held is not the upstream's: Envoy or another filter
    /// answers (a timeout, a limit), and the request will go nowhere.
    pub fn on_response_headers(&mut self, host: &dyn Host) {
        if self.phase.held() {
            self.vm.count_pass(host, Reason::RepliedEarly);
            self.set_state(host, REASON_STATE, Reason::RepliedEarly.label());
            self.go(host, Phase::Gone);
        }
        if self.pick.is_none() {
            return;
        }
        let status = self.checked(host, host.response_header(":status")).flatten();
        let endpoint = self.served_by(host);
        if let Some(pick) = &mut self.pick {
            pick.status =
                status.and_then(|status| std::str::from_utf8(&status).ok()?.parse().ok()).unwrap_or(0);
            pick.endpoint = endpoint;
        }
    }

    /// Part of the response's body; only its first byte is of interest.
    pub fn on_response_body(&mut self, host: &dyn Host, bytes: usize) {
        let elapsed = self.elapsed_us(host);
        match &mut self.pick {
            Some(pick) if bytes > 0 && pick.first_byte_us == 0 => pick.first_byte_us = elapsed.max(1),
            _ => return,
        }
        self.report(host, Stage::FirstByte);
    }

    /// The stream is about to be logged: it has ended, however.
    pub fn on_log(&mut self, host: &dyn Host) {
        if self.pick.as_ref().is_some_and(|pick| pick.endpoint.is_empty()) {
            let endpoint = self.served_by(host);
            if let Some(pick) = &mut self.pick {
                pick.endpoint = endpoint;
            }
        }
        self.end(host);
    }

    /// The stream's context goes away.
    pub fn on_done(&mut self, host: &dyn Host) {
        self.end(host);
    }

    fn end(&mut self, host: &dyn Host) {
        match self.phase {
            Phase::Over => return,
            Phase::Collecting { .. } | Phase::Asking { .. } => self.vm.count_pass(host, Reason::ClientGone),
            Phase::Idle | Phase::Gone => {}
        }
        self.report(host, Stage::End);
        self.pick = None;
        self.go(host, Phase::Over);
    }

    fn served_by(&self, host: &dyn Host) -> String {
        let address = self.checked(host, host.property(&["upstream", "address"])).flatten();
        address.and_then(|address| String::from_utf8(address).ok()).unwrap_or_default()
    }

    fn report(&self, host: &dyn Host, stage: Stage) {
        let Some(pick) = &self.pick else { return };
        let report = PickReport {
            pick_id: pick.id,
            endpoint: pick.endpoint.clone(),
            stage: stage.into(),
            status: pick.status,
            first_byte_us: pick.first_byte_us,
            duration_us: if stage == Stage::End { self.elapsed_us(host) } else { 0 },
        };
        if !self.vm.reports.borrow_mut().push(report) {
            self.vm.count(host, Counter::ReportsDropped);
        }
    }

    fn elapsed_us(&self, host: &dyn Host) -> u64 {
        u64::try_from(host.now().saturating_sub(self.headers_end).as_micros()).unwrap_or(u64::MAX)
    }
}
