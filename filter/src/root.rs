//! The VM's root context: what happens outside requests.

use std::rc::Rc;
use std::time::Duration;

use crate::config;
use crate::fetch::Fetcher;
use crate::host::{GrpcCall, Host};
use crate::metrics::Counter;
use crate::pick::grpc_service;
use crate::report::REPORT_METHOD;
use crate::vm::Vm;

/// The clock of reports and fetches. The sidecar's counts of outstanding requests lag by up to this much, so it is
/// short beside a prompt's prefill; ten wake-ups a second are nothing to a worker.
pub const TICK: Duration = Duration::from_millis(100);

/// How long one batch of reports may take.
const REPORT_TIMEOUT: Duration = Duration::from_secs(1);
/// After this the batch counts as lost, whatever became of the answer.
const REPORT_DEADLINE: Duration = Duration::from_secs(2);

/// The root context; one per VM.
#[derive(Default)]
pub struct Root {
    vm: Rc<Vm>,
    fetcher: Fetcher,
    /// The batch that is under way; one at a time, so a slow sidecar gets larger batches and not more of them.
    sending: Option<Batch>,
}

struct Batch {
    token: u32,
    reports: usize,
    deadline: Duration,
}

impl Root {
    /// What the VM's streams share.
    pub fn vm(&self) -> Rc<Vm> {
        Rc::clone(&self.vm)
    }

    /// The VM has started.
    pub fn on_vm_start(&self, host: &dyn Host) {
        log::info!("warmpath filter {}", crate::VERSION);
        self.vm.define_metrics(host);
    }

    /// Reads the plugin configuration. A bad one is logged and counted, and every request passes: refusing it would
    /// stop Envoy's start-up.
    pub fn on_configure(&mut self, host: &dyn Host) {
        let config = host
            .plugin_configuration()
            .map_err(|error| error.to_string())
            .and_then(|json| config::parse(&json).map_err(|error| error.to_string()));
        match config {
            Ok(config) => {
                self.vm.set_config(Some(config));
                if let Err(error) = host.set_tick_period(TICK) {
                    log::error!("no request will be steered: {error}");
                    self.vm.count(host, Counter::HostErrors);
                }
            }
            Err(error) => {
                log::error!("no request will be steered: {error}");
                self.vm.count(host, Counter::ConfigErrors);
                self.vm.set_config(None);
            }
        }
    }

    /// Polls the catalog and sends reports.
    pub fn on_tick(&mut self, host: &dyn Host) {
        let Some(config) = self.vm.config() else { return };
        self.fetcher.on_tick(host, &self.vm, &config);
        self.send_reports(host, &config.pick_cluster);
    }

    /// An HTTP call of the VM was answered, or failed (`headers` is 0 then).
    pub fn on_http_answer(&mut self, host: &dyn Host, token: u32, headers: usize, bytes: usize) {
        let known = match self.vm.config() {
            Some(config) => self.fetcher.on_answer(host, &self.vm, &config, token, headers, bytes),
            None => false,
        };
        if !known {
            log::debug!("answer to HTTP call {token}, which nobody waits for");
            self.vm.count(host, Counter::WrongPhase);
        }
    }

    /// A batch of reports was answered, or failed.
    pub fn on_grpc_answer(&mut self, host: &dyn Host, token: u32, status: u32) {
        match self.sending.take_if(|batch| batch.token == token) {
            Some(batch) => self.sent(host, batch.reports, status == 0),
            None => {
                log::debug!("answer to gRPC call {token}, which nobody waits for");
                self.vm.count(host, Counter::WrongPhase);
            }
        }
    }

    fn send_reports(&mut self, host: &dyn Host, cluster: &str) {
        let now = host.now();
        if let Some(lost) = self.sending.take_if(|batch| now >= batch.deadline) {
            self.sent(host, lost.reports, false);
        }
        if self.sending.is_some() {
            return;
        }
        let Some((message, reports)) = self.vm.reports.borrow_mut().take() else { return };
        let service = grpc_service(cluster).unwrap_or_default();
        let call = GrpcCall {
            service: &service,
            method: REPORT_METHOD,
            metadata: Vec::new(),
            message: &message,
            timeout: REPORT_TIMEOUT,
        };
        match host.grpc_call(&call) {
            Ok(token) => self.sending = Some(Batch { token, reports, deadline: now + REPORT_DEADLINE }),
            Err(error) => {
                log::debug!("reports: {error}");
                self.sent(host, reports, false);
            }
        }
    }

    fn sent(&self, host: &dyn Host, reports: usize, ok: bool) {
        let counter = if ok { Counter::ReportsSent } else { Counter::ReportsDropped };
        self.vm.count_many(host, counter, reports);
    }
}
