//! A run as a row of the table.

use darkroom_local_aws::DynamoDbUse;

use super::run::{Measured, Setup};

/// The table's head.
pub(crate) const HEAD: &str = "\
| run (processes × batch) | jobs | span s | floor s | use % | rate 429s | day 429s | calls to dead keys (most of one) \
| wasted | wasted % | provider's faults | jobs failed | DynamoDB calls/job | write units/job | writes/s of one item | CPU not given |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|";

/// One row. Calls, units and the hottest item are submission's and drawing's together.
pub(crate) fn row(name: &str, setup: &Setup, measured: &Measured) -> String {
    let Measured { figures, floor, jobs, failed, errors, submitting, drawing, stolen } = measured;
    let stolen = stolen * 100.0;
    let (span, floor) = (figures.span.as_secs_f64(), floor.map(|floor| floor.as_secs_f64()));
    let used = floor.map_or_else(|| "–".to_owned(), |floor| format!("{:.1}", floor / span * 100.0));
    let floor = floor.map_or_else(|| "never".to_owned(), |floor| format!("{floor:.0}"));
    let dead: usize = figures.dead.values().sum();
    let most = figures.dead.values().max().copied().unwrap_or_default();
    let wasted_share = figures.wasted as f64 / figures.calls.max(1) as f64 * 100.0;
    let (submit, draw) = (submitting.total(), drawing.total());
    let per_job = |amount: f64| amount / *jobs as f64;
    let calls = per_job((submit.requests + draw.requests) as f64);
    let units = per_job(submit.write_units + draw.write_units);
    let hottest = [submitting, drawing].into_iter().filter_map(|used| used.hottest.as_ref());
    let hottest = hottest
        .max_by_key(|hottest| hottest.writes)
        .map_or_else(|| "0".to_owned(), |hottest| format!("{} ({})", hottest.writes, short(&hottest.item)));
    let crashed =
        if *errors > 0 { format!("; {errors} invocations without an answer") } else { String::new() };
    let minute = setup.plan.minute.as_secs();
    format!(
        "| {name}, minute {minute} s{crashed} | {jobs} | {span:.2} | {floor} | {used} | {} | {} | {dead} ({most}) | {} \
         | {wasted_share:.2} | {} | {failed} | {calls:.2} | {units:.2} | {hottest} | {stolen:.0} % |",
        figures.rate_refusals, figures.day_refusals, figures.wasted, figures.faults
    )
}

/// DynamoDB's operations per job, a line for submission and one for drawing.
pub(crate) fn operations(measured: &Measured) -> String {
    let line = |name: &str, used: &DynamoDbUse| {
        let each: Vec<_> = used
            .operations
            .iter()
            .map(|(operation, used)| {
                let per_job = |amount: f64| amount / measured.jobs as f64;
                let refused = match used.refused {
                    0 => String::new(),
                    refused => format!(", {:.2} refused", per_job(refused as f64)),
                };
                let (requests, units) = (per_job(used.requests as f64), per_job(used.write_units));
                format!("{} {requests:.2} ({units:.2}{refused})", short(operation))
            })
            .collect();
        format!("    {name}: {}", each.join(" · "))
    };
    format!("{}\n{}", line("submission", &measured.submitting), line("drawing", &measured.drawing))
}

/// Tables without the stack's name.
fn short(name: &str) -> String {
    name.replace("darkroom-local-", "")
}
