//! HTTP requests, as a client of the `files` service sends them.

use standin::service::{App, Edition, Env, Kind, Limits, Patience, Read};

use crate::library::{WALL, library};

/// The input is everything that the client says. What comes back is a sequence of sound responses,
/// whatever was asked.
pub fn run(data: &[u8]) {
    let (mut pins, mut store) = (Vec::new(), library());
    let mut env = Env {
        store: &mut store,
        lead: true,
        pins: &mut pins,
        wall: WALL,
        edition: Edition::Second,
    };
    let mut app = App::new(
        Kind::Files { root: 0, patience: Patience::ENDLESS },
        &Limits { output_buffer: u32::MAX },
    );
    app.on_input(data, &mut env);
    app.on_peer_finished(&mut env);
    assert!(app.finished(), "the client's end is the end");
    assert!(app.failed().is_none());
    assert!(app.consumed() <= data.len() as u64);

    let end = app.output_end();
    let mut output = vec![0; end as usize];
    let mut at = 0;
    while at < end {
        match app.read(at..end, &mut output[at as usize..], &mut store) {
            Read::Ready(count) if count > 0 => at += count as u64,
            other => panic!("{other:?} at {at} of {end}"),
        }
    }
    assert_responses(&output);
    app.close(&mut store);
    assert_eq!(store.holds(), 0, "every hold is given back");
}

/// No body of the library or of an error begins like a head, so where the answer to a HEAD request
/// ends can be told.
fn assert_responses(mut output: &[u8]) {
    const START: &[u8] = b"HTTP/1.1 ";
    while !output.is_empty() {
        let mut fields = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut fields);
        let Ok(httparse::Status::Complete(length)) = response.parse(output) else {
            panic!("not a head: {:?}", String::from_utf8_lossy(output));
        };
        let status = response.code.expect("a status");
        assert!((100..600).contains(&status) && output.starts_with(START));
        let bodiless = status < 200 || status == 204 || status == 304;
        let stated = response
            .headers
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case("content-length"))
            .map(|field| str::from_utf8(field.value).expect("digits"))
            .map(|value| value.parse::<usize>().expect("a length"));
        output = &output[length..];
        if bodiless || output.is_empty() || output.starts_with(START) {
            continue;
        }
        let stated = stated.expect("a body has a length");
        assert!(output.len() >= stated, "the body is all there");
        output = &output[stated..];
    }
}
