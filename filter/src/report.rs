//! What became of picks, on its way to the sidecar: a bounded queue in the VM, emptied by the root context. Many
//! in one message cost what one does, so requests only queue.

use std::collections::VecDeque;

use warmpath_proto::v1::{PickReport, ReportRequest};

/// The most reports that wait: at two per request and one flush per [`crate::root::REPORT_EVERY`], 20,000 requests per second
/// and worker. About 100 bytes each, 400 KiB in all.
pub const QUEUED_MAX: usize = 4096;

/// Reports that wait to be sent, oldest first.
#[derive(Default, Debug)]
pub struct Reports {
    queue: VecDeque<PickReport>,
}

impl Reports {
    /// Queues a report. False: the queue is full and the report is lost.
    #[must_use]
    pub fn push(&mut self, report: PickReport) -> bool {
        let room = self.queue.len() < QUEUED_MAX;
        if room {
            self.queue.push_back(report);
        }
        room
    }

    /// Takes everything and says how many reports it is; none if there are none.
    pub fn take(&mut self) -> Option<(ReportRequest, usize)> {
        let reports: Vec<_> = self.queue.drain(..).collect();
        let count = reports.len();
        (count > 0).then_some((ReportRequest { reports }, count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_and_in_order() {
        let mut reports = Reports::default();
        assert!(reports.take().is_none());
        let report = |pick_id| PickReport { pick_id, ..PickReport::default() };
        for pick_id in 0..QUEUED_MAX as u64 {
            assert!(reports.push(report(pick_id)));
        }
        assert!(!reports.push(report(0)));
        let (sent, count) = reports.take().unwrap();
        assert_eq!(count, QUEUED_MAX);
        assert!(sent.reports.iter().map(|r| r.pick_id).eq(0..QUEUED_MAX as u64));
        assert!(reports.push(report(1)), "room again");
    }
}
