//! The queue in numbers.

use crate::common::at;
use darkroom_core::id::ModelName;
use darkroom_core::queue::{Line, lines};

#[test]
fn jobs_are_counted_by_model_and_the_oldest_tells_since_when() {
    let [one, two] = ["one", "two"].map(|name| ModelName::parse(name).unwrap());
    // In no order.
    let waiting = [(&one, at(30)), (&two, at(20)), (&one, at(10)), (&one, at(20))];
    let lines = lines(waiting);
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[&one], Line { jobs: 3, oldest: at(10) });
    assert_eq!(lines[&two], Line { jobs: 1, oldest: at(20) });
}
