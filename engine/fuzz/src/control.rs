//! A line on the control socket, in both directions.

use standin::runtime::control::{Answer, Request};

/// The input is a line: a request, and an answer.
pub fn run(data: &[u8]) {
    let Ok(line) = str::from_utf8(data) else { return };
    if let Ok(request) = serde_json::from_str::<Request>(line) {
        let written = serde_json::to_string(&request).expect("a request can be written");
        let again = serde_json::from_str::<Request>(&written).expect("and read");
        assert_eq!(again, request, "written as read");
    }
    if let Ok(answer) = serde_json::from_str::<Answer>(line) {
        let written = serde_json::to_string(&answer).expect("an answer can be written");
        assert!(!written.contains('\n'), "one line");
        let again = serde_json::from_str::<Answer>(&written).expect("and read");
        assert_eq!((again.ok, again.error, again.age_ms), (answer.ok, answer.error, answer.age_ms));
    }
}
