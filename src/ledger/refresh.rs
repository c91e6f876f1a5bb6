//! The line and the count of a refresh in the background: no client's call, but one that the upstream answers.

use super::{Ledger, clock, line::Line};
use crate::{
    answer::tape::Summary,
    cache::refresh::Refreshed,
    call::key::Hex,
    dialect::Dialect,
    error::Kind,
    store::totals::{Counts, Day, Place, What},
};

/// What came of a refresh, for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The entry was replaced.
    Stored,
    /// An answer came that was not stored.
    NotStored,
    /// No whole answer came.
    Failed,
}

impl Outcome {
    /// Every outcome, in the order of the docs.
    pub const ALL: [Self; 3] = [Self::Stored, Self::NotStored, Self::Failed];

    /// Returns the metric label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::NotStored => "not_stored",
            Self::Failed => "failed",
        }
    }

    fn of(refreshed: &Refreshed) -> Self {
        match refreshed.summary {
            Some(Summary { kept: Ok(()), .. }) => Self::Stored,
            Some(_) if refreshed.error.is_none() => Self::NotStored,
            _ => Self::Failed,
        }
    }
}

impl Ledger {
    /// Writes down a refresh.
    pub fn refreshed(&self, refreshed: &Refreshed) {
        let upstream = refreshed
            .head
            .as_ref()
            .and_then(|head| Some(head.timing.as_ref()?.total()));
        self.metrics().refreshed(
            Outcome::of(refreshed),
            upstream.filter(|time| !time.is_zero()),
        );
        self.add_up(refreshed);
        if tracing::enabled!(tracing::Level::INFO) {
            self.write_refresh(refreshed);
        }
    }

    /// Adds its tokens to the counters that last: they were spent, though on no client's call.
    fn add_up(&self, refreshed: &Refreshed) {
        let usage = refreshed.summary.and_then(|summary| summary.usage);
        let Some(usage) = usage else { return };
        let mut counts = Counts::default();
        counts.add(What::SpentInput, usage.input_tokens);
        counts.add(What::SpentOutput, usage.output_tokens);
        let place = Place::new(
            refreshed.dialect.map_or("other", Dialect::as_str),
            &refreshed.keyed.request.model,
            &refreshed.namespace,
        );
        self.totals().count(Day::of(clock::wall()), place, &counts);
    }

    fn write_refresh(&self, refreshed: &Refreshed) {
        let key = refreshed.keyed.slot.key.short();
        let caller = refreshed.caller.shown();
        let head = refreshed.head.as_ref();
        let kept = refreshed.summary.map(|summary| summary.kept);
        let usage = refreshed.summary.and_then(|summary| summary.usage);
        let failed = refreshed.error.map(Kind::status);
        let tries = head.and_then(|head| head.timing.as_ref()?.failed());
        let line = Line {
            timestamp: clock::wall(),
            level: "INFO",
            message: "refresh",
            id: refreshed.id.to_str().unwrap_or_default(),
            caller: caller.as_str(),
            dialect: refreshed.dialect.map_or("other", Dialect::as_str),
            model: Some(&refreshed.keyed.request.model),
            method: refreshed.method.as_str(),
            path: refreshed.target.path(),
            status: head
                .map(|head| head.status)
                .or(failed)
                .map_or(0, |s| s.as_u16()),
            verdict: "refresh",
            reason: None,
            key: Some(Hex::as_str(&key)),
            rule: refreshed.rule.as_ref().map(|rule| rule.name.as_str()),
            stored: kept.map(|kept| kept.is_ok()),
            not_stored: kept.and_then(|kept| Some(kept.err()?.as_str())),
            upstream: head.and_then(|head| head.upstream.to_str().ok()),
            retries: tries.map(|tries| tries.count),
            retry_reason: tries.map(|tries| tries.why),
            error: refreshed.error.map(Kind::as_str),
            input_tokens: usage.map(|usage| usage.input_tokens),
            output_tokens: usage.map(|usage| usage.output_tokens),
            bytes: refreshed.bytes,
            ttfb: refreshed.first_byte.map(|first| first - refreshed.started),
            total: refreshed.started.elapsed(),
        };
        self.add(&line);
    }
}
