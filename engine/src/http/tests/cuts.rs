//! Any bytes, cut anywhere: the same story, and an end.

use super::{Stream, Way};
use crate::http::{Asked, Framing, Part};
use proptest::prelude::*;

/// What streams of HTTP are made of, and what they should not be made of.
const WORDS: [&str; 56] = [
    "GET / HTTP/1.1\r\n",
    "POST /a HTTP/1.1\r\n",
    "HEAD * HTTP/1.0\r\n",
    "CONNECT h:1 HTTP/1.1\r\n",
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 204\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n",
    "HTTP/1.1 304 \r\n",
    "Host: h\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "Content-Length: +5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Connection: close\r\n",
    "Connection: keep-alive, upgrade\r\n",
    "Upgrade: x\r\n",
    "Expect: 100-continue\r\n",
    "X: y\r\n",
    " folded\r\n",
    "A : b\r\n",
    "\r\n",
    "\r\n\r\n",
    "\r",
    "\n",
    "\0",
    "5\r\nhello\r\n",
    "5;a=b\r\nhello\r\n",
    "5 \r\n",
    "0\r\n\r\n",
    "0\r\n",
    "00000000000000001\r\n",
    "Trailer: t\r\n",
    "Host",
    "content-length",
    "Transfer-Encoding",
    "hello",
    "GET ",
    "/",
    "HTTP/1.1",
    "HTTP/2.0",
    ":",
    " ",
    "\t",
    ",",
    ";",
    "5",
    "a",
    "F",
    "-1",
    "\u{e9}",
    "\u{7f}",
    "get / HTTP/1.1\r\n",
    "Content_Length: 1\r\n",
    "Content-Type: a\r\n",
    "hello, world",
];

fn streams() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        12 => prop::sample::select(&WORDS[..]).prop_map(|word| word.as_bytes().to_vec()),
        1 => prop::collection::vec(any::<u8>(), 0..4),
    ];
    prop::collection::vec(word, 0..24).prop_map(|words| words.concat())
}

fn ways() -> impl Strategy<Value = Way> {
    prop_oneof![
        3 => Just(Way::Requests),
        1 => Just(Way::Replies(Asked::Other)),
        1 => Just(Way::Replies(Asked::Head)),
        1 => Just(Way::Replies(Asked::Connect)),
    ]
}

/// `bytes` cut at each of `cuts`, taken modulo what there is.
fn pieces<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut at: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    at.extend([0, bytes.len()]);
    at.sort_unstable();
    at.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect()
}

/// A chunk: its data, its extension, and how its size is written.
fn chunks() -> impl Strategy<Value = Vec<(Vec<u8>, String, usize)>> {
    let chunk =
        (prop::collection::vec(any::<u8>(), 1..40), "(;[a-z]{1,3}(=[a-z]{1,3})?)?", 0..6usize);
    prop::collection::vec(chunk, 0..6)
}

proptest! {
    #[test]
    fn a_stream_means_the_same_however_it_is_cut(
        bytes in streams(),
        way in ways(),
        cuts in prop::collection::vec(any::<usize>(), 0..8),
    ) {
        let whole = Stream::read(way, [&bytes[..]]);
        prop_assert_eq!(&Stream::read(way, pieces(&bytes, &cuts)), &whole);
        prop_assert_eq!(&Stream::read(way, bytes.chunks(1)), &whole);
    }

    #[test]
    fn noise_ends_somewhere(bytes in prop::collection::vec(any::<u8>(), 0..200), way in ways()) {
        prop_assert_eq!(Stream::read(way, bytes.chunks(1)), Stream::read(way, [&bytes[..]]));
    }

    #[test]
    fn what_was_chunked_comes_out(
        chunks in chunks(),
        trailers in prop::collection::vec("[A-Za-z]{1,4}x:[ -~]{0,6}\r\n", 0..3),
        cuts in prop::collection::vec(any::<usize>(), 0..8),
    ) {
        let mut coded = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for (data, extension, zeros) in &chunks {
            let size = format!("{}{:X}{extension}\r\n", "0".repeat(*zeros), data.len());
            coded.extend([size.as_bytes(), data, b"\r\n"].concat());
        }
        coded.extend(format!("0\r\n{}\r\n", trailers.concat()).into_bytes());
        let mut both = coded.clone();
        both.extend(&coded);
        let story = Stream::read(Way::Requests, pieces(&both, &cuts));
        prop_assert_eq!((story.messages.len(), story.refused), (2, None));
        for message in story.messages {
            let data: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.0.clone()).collect();
            prop_assert_eq!((message.body, message.complete), (data, true));
            prop_assert_eq!(message.trailer, trailers.concat().into_bytes());
        }
    }

    /// A place that was written down goes on as the one it was taken from.
    #[test]
    fn a_body_goes_on_elsewhere(bytes in streams(), at in any::<usize>()) {
        let (before, behind) = bytes.split_at(at % (bytes.len() + 1));
        let (mut framing, mut rest) = (Framing::CHUNKED, before);
        while let Ok(
            Part::Data(count) | Part::Framing(count) | Part::Trailer(count)
        ) = framing.next(rest) {
            rest = &rest[count..];
        }
        let mut written = Vec::new();
        framing.encode(&mut written);
        let mut reader = crate::codec::Reader::new(&written);
        let mut heir = Framing::decode(&mut reader).expect("our own");
        prop_assert_eq!((heir, reader.end()), (framing, Some(())));
        prop_assert_eq!(heir.next(behind), framing.next(behind));
    }
}
