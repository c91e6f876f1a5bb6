use std::convert::Infallible;

use bytes::Bytes;
use futures_util::{FutureExt, StreamExt, stream};
use proptest::{collection::vec, prelude::*, sample::select};

use super::*;

/// Name and data of an event.
type Owned = (Vec<u8>, Vec<u8>);

/// A stream, the names and data of its events, and why.
type Case = (
    &'static [u8],
    &'static [(&'static str, &'static str)],
    &'static str,
);

/// Everything that a reader tells about a stream.
#[derive(Debug, PartialEq)]
struct Report {
    events: Vec<Owned>,
    pending: bool,
    overflowed: bool,
    unfinished: Option<Vec<u8>>,
}

fn read(limit: usize, chunks: &[&[u8]]) -> Report {
    let mut reader = Events::with_limit(limit);
    let mut events = Vec::new();
    for chunk in chunks {
        reader.push(chunk, &mut |event| {
            events.push((event.name.to_vec(), event.data.to_vec()));
        });
    }
    Report {
        events,
        pending: reader.pending(),
        overflowed: reader.overflowed(),
        unfinished: reader.into_unfinished(),
    }
}

fn whole(stream: &[u8]) -> Report {
    read(DEFAULT_LIMIT, &[stream])
}

fn byte_by_byte(limit: usize, stream: &[u8]) -> Report {
    read(limit, &stream.chunks(1).collect::<Vec<_>>())
}

fn split<'a>(stream: &'a [u8], cuts: &[prop::sample::Index]) -> Vec<&'a [u8]> {
    let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(stream.len() + 1)).collect();
    places.extend([0, stream.len()]);
    places.sort_unstable();
    places
        .windows(2)
        .map(|pair| &stream[pair[0]..pair[1]])
        .collect()
}

fn encode(events: &[Owned], line_end: &str, space: &str) -> Vec<u8> {
    let mut stream = Vec::new();
    let mut line = |field: &str, value: &[u8]| {
        stream.extend_from_slice(field.as_bytes());
        stream.extend_from_slice(value);
        stream.extend_from_slice(line_end.as_bytes());
    };
    for (name, data) in events {
        line(&format!("event:{space}"), name);
        for part in data.split(|&byte| byte == b'\n') {
            line(&format!("data:{space}"), part);
        }
        line("", b"");
    }
    stream
}

/// What another implementation makes of the same chunks.
fn oracle(chunks: &[&[u8]]) -> Vec<Owned> {
    let chunks: Vec<_> = chunks
        .iter()
        .map(|chunk| Ok::<_, Infallible>(Bytes::copy_from_slice(chunk)))
        .collect();
    let blocks: Vec<_> = sse_stream::SseByteStream::new(stream::iter(chunks))
        .collect()
        .now_or_never()
        .expect("the chunks are all there");
    blocks
        .into_iter()
        .map(|block| block.expect("the stream is UTF-8"))
        // It reports blocks without data, which are no events.
        .filter_map(|block| {
            Some((
                block.event.unwrap_or_default().into_bytes(),
                block.data?.into_bytes(),
            ))
        })
        .collect()
}

#[test]
fn a_stream_is_read_as_the_standard_says() {
    let table: [Case; 23] = [
        (b"", &[], "nothing"),
        (b"\n\n\r\r\n\n", &[], "blank lines make no event"),
        (b"data: x\n\n", &[("", "x")], "line feeds"),
        (b"data: x\r\r", &[("", "x")], "carriage returns"),
        (b"data: x\r\n\r\n", &[("", "x")], "both"),
        (
            b"data: x\r\n\rdata: y\n\r\n",
            &[("", "x"), ("", "y")],
            "all mixed",
        ),
        (b"data:x\n\n", &[("", "x")], "the blank is optional"),
        (b"data:  x \n\n", &[("", " x ")], "only one blank is taken"),
        (b"data:\tx\n\n", &[("", "\tx")], "a tab is no blank"),
        (b"data: a:b\n\n", &[("", "a:b")], "the first colon splits"),
        (b"data: a\ndata: b\n\n", &[("", "a\nb")], "lines are joined"),
        (
            b"data\n\ndata\ndata\n\ndata:",
            &[("", ""), ("", "\n")],
            "the standard's own example",
        ),
        (
            b"event: e\ndata: x\n\ndata: y\n\n",
            &[("e", "x"), ("", "y")],
            "a name lasts for one event",
        ),
        (
            b"event: a\nevent: b\ndata: x\n\n",
            &[("b", "x")],
            "the last name counts",
        ),
        (
            b"event: e\n\ndata: x\n\n",
            &[("", "x")],
            "a name without data is no event",
        ),
        (b": hi\n\n:\ndata: x\n: ho\n\n", &[("", "x")], "comments"),
        (
            b"id: 1\nretry: 5\nfoo: bar\nfoo\ndata: x\n\n",
            &[("", "x")],
            "other fields",
        ),
        (b" data: x\n\nData: y\n\n", &[], "field names are exact"),
        (
            b"\xEF\xBB\xBFdata: x\n\n",
            &[("", "x")],
            "a byte order mark",
        ),
        (
            b"\xEF\xBB\xBF\n\xEF\xBB\xBFdata: x\n\n",
            &[],
            "only one, at the very start",
        ),
        (
            b"data: x\n\ndata: y\n",
            &[("", "x")],
            "an unfinished event is none",
        ),
        (b"data: \0\n\n", &[("", "\0")], "a zero byte is a byte"),
        (b"data: [DONE]", &[], "an unfinished line is none"),
    ];
    for (stream, expected, why) in table {
        let expected: Vec<Owned> = expected
            .iter()
            .map(|&(name, data)| (name.into(), data.into()))
            .collect();
        assert_eq!(whole(stream).events, expected, "{why}");
        assert_eq!(
            byte_by_byte(DEFAULT_LIMIT, stream).events,
            expected,
            "{why}, byte by byte"
        );
    }
}

#[test]
fn bytes_that_are_not_utf_8_are_handed_over_as_they_are() {
    assert_eq!(
        whole(b"data: \xff\xfe\n\n").events,
        [(vec![], b"\xff\xfe".to_vec())]
    );
}

#[test]
fn what_was_read_since_the_last_event_is_pending() {
    let table: [(&[u8], bool, Option<&str>, &str); 14] = [
        (b"", false, None, "nothing"),
        (b"data: x\n\n", false, None, "an event is not pending"),
        (
            b"data: x\n\r",
            false,
            None,
            "nor is the rest of its line end",
        ),
        (b"data: x\n\n\n\r\n", false, None, "nor are blank lines"),
        (b"data: x\n\n: bye\n", false, None, "nor is a comment"),
        (b"data: x\n\n: by", false, None, "nor is half a comment"),
        (b"data: x", true, Some("x"), "a line without its end"),
        (
            b"data: x\n",
            true,
            Some("x"),
            "an event without its blank line",
        ),
        (b"data: x\ndata: y", true, Some("x\ny"), "both"),
        (b"data\n", true, Some(""), "empty data is data"),
        (b"data: x\n\ndat", true, None, "half a field name"),
        (b"data: x\n\nevent: e\n", true, None, "a name without data"),
        (
            b"data: x\n\nid: 1\n\n",
            true,
            None,
            "lines that make no event",
        ),
        (
            b"id: 1\n\ndata: x\n\n",
            false,
            None,
            "unless an event follows them",
        ),
    ];
    for (stream, pending, unfinished, why) in table {
        let report = whole(stream);
        assert_eq!(report.pending, pending, "{why}");
        assert_eq!(
            report.unfinished.as_deref(),
            unfinished.map(str::as_bytes),
            "{why}"
        );
    }
}

#[test]
fn an_event_within_one_chunk_is_handed_over_where_it_lies() {
    let chunk = b"data: x\n\nevent: e\r\ndata: y\r\n\r\n";
    let mut events = 0;
    Events::default().push(chunk, &mut |event| {
        events += 1;
        assert!(chunk.as_ptr_range().contains(&event.data.as_ptr()));
    });
    assert_eq!(events, 2);
}

#[test]
fn an_event_beyond_the_limit_is_skipped_and_the_next_one_is_read() {
    let long = "x".repeat(40);
    let table = [
        (format!("data: {long}\n\ndata: y\n\n"), "one line"),
        (
            format!(
                "data: {}\ndata: {}\n\ndata: y\n\n",
                &long[..20],
                &long[..20]
            ),
            "several lines",
        ),
        (format!("event: {long}\ndata: x\n\ndata: y\n\n"), "the name"),
        (
            format!(": {long}\ndata: x\n\ndata: y\n\n"),
            "a comment inside",
        ),
        (
            format!("data: {long}\nid: 1\n: c\ndata: z\n\ndata: y\n\n"),
            "and lines after it",
        ),
    ];
    for (stream, why) in table {
        let report = read(32, &[stream.as_bytes()]);
        assert_eq!(report.events, [(vec![], b"y".to_vec())], "{why}");
        assert!(report.overflowed, "{why}");
        assert_eq!(
            byte_by_byte(32, stream.as_bytes()),
            report,
            "{why}, byte by byte"
        );
    }
}

#[test]
fn a_line_that_never_ends_takes_no_memory_beyond_the_limit() {
    let mut reader = Events::with_limit(1 << 10);
    for _ in 0..1_000 {
        reader.push(&[b'x'; 100], &mut |_| panic!("no event"));
        assert!(reader.lines.begun.len() + reader.draft.data.len() <= 1 << 10);
    }
    assert!(reader.overflowed());
    assert!(reader.pending());
}

#[test]
fn a_byte_order_mark_is_neither_too_long_nor_does_it_hide_what_follows() {
    assert!(!read(0, &[b"\xEF\xBB\xBF\n"]).overflowed);
    let mut reader = Events::with_limit(32);
    reader.push(
        "\u{feff}: a comment that is too long, and".as_bytes(),
        &mut |_| {},
    );
    reader.push(b" begins in an earlier chunk\n", &mut |_| {});
    assert!(reader.overflowed());
    assert!(!reader.pending(), "a comment leaves nothing pending");
}

#[test]
fn many_comments_are_no_overflow() {
    let mut reader = Events::with_limit(32);
    for _ in 0..100 {
        reader.push(b": keep-alive\n", &mut |_| panic!("no event"));
    }
    assert!(!reader.overflowed());
    assert!(!reader.pending());
}

/// Pieces that a stream's meaning turns on, so that random sequences of them reach every state.
fn soup() -> impl Strategy<Value = Vec<u8>> {
    let piece = select(vec![
        "data",
        "event",
        "id",
        "retry",
        ":",
        ": ",
        " ",
        "\n",
        "\r",
        "\r\n",
        "\n\n",
        "\r\r",
        "x",
        "é",
        "\u{feff}",
        "\0",
        "data: x\n",
        "data:\r",
        "event: e\r\n",
        "data: [DONE]\n\n",
    ]);
    (any::<bool>(), vec(piece, 0..40)).prop_map(|(mark, pieces)| {
        let mark = if mark { "\u{feff}" } else { "" };
        format!("{mark}{}", pieces.concat()).into_bytes()
    })
}

fn event() -> impl Strategy<Value = Owned> {
    let text = || "[^\r\n]{0,12}";
    (text(), vec(text(), 1..4))
        .prop_map(|(name, lines)| (name.into_bytes(), lines.join("\n").into_bytes()))
}

proptest! {
    #[test]
    fn what_was_encoded_is_read_under_any_chunking(
        events in vec(event(), 1..6),
        line_end in select(vec!["\n", "\r", "\r\n"]),
        mark in any::<bool>(),
        cuts in vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut stream = if mark { BYTE_ORDER_MARK.to_vec() } else { Vec::new() };
        stream.extend(encode(&events, line_end, " "));
        let report = read(DEFAULT_LIMIT, &split(&stream, &cuts));
        prop_assert_eq!(report, Report { events, pending: false, overflowed: false, unfinished: None });
    }

    #[test]
    fn another_implementation_reads_the_same_events(
        stream in soup(),
        cuts in vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let chunks = split(&stream, &cuts);
        prop_assert_eq!(read(DEFAULT_LIMIT, &chunks).events, oracle(&chunks));
    }

    #[test]
    fn no_report_depends_on_where_the_stream_was_cut(
        stream in prop_oneof![soup(), vec(any::<u8>(), 0..200)],
        cuts in vec(any::<prop::sample::Index>(), 0..12),
        limit in 0_usize..40,
    ) {
        let report = read(limit, &[&stream]);
        prop_assert_eq!(&read(limit, &split(&stream, &cuts)), &report);
        prop_assert_eq!(&byte_by_byte(limit, &stream), &report);
    }
}
