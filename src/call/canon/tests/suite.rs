//! JSON that parsers disagree about, in the manner of `JSONTestSuite`, with `serde_json` as the oracle: what it rejects we
//! reject, what we accept it accepts. Each case is the value of a member of an otherwise good body.

use serde_json::Value;

use super::{Unkeyed, canon};

/// Accepted: every parser reads these alike.
const ACCEPTED: [&[u8]; 44] = [
    b"null",
    b"true",
    b"false",
    b"0",
    b"-0",
    b"-0.0",
    b"-1",
    b"123",
    b"1.5",
    b"0.1",
    b"1e5",
    b"1E5",
    b"1e+5",
    b"1e-5",
    b"1.5e00",
    b"0e1",
    b"0e+1",
    b"123e45",
    b"20e1",
    b"9007199254740993",
    b"18446744073709551617",
    b"100000000000000000000000000000000000000000",
    b"0.1000000000000000055511151231257827",
    b"1e300",
    b"1e-300",
    b"-1e300",
    b" \t\r\n1 \t\r\n",
    b"[]",
    b"[ ]",
    b"[[]]",
    b"[1,2,3]",
    b"[ 1 , \"a\" , null , {} ]",
    b"{}",
    b"{ }",
    b"{\"\":0}",
    b"{\"a\":{\"b\":[{\"c\":null}]}}",
    b"{\"a\":1,\"b\":1}",
    b"\"\"",
    b"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
    b"\"\\u0000\\u001f\\uFFFF\"",
    b"\"\\ud83d\\ude00\\uD834\\uDD1E\"",
    "\"\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}\u{feff}\"".as_bytes(),
    b"\"\\\\u0000 // /* */ # ,] \"",
    b"\"new\\u00A0line\"",
];

/// No JSON.
const INVALID: [&[u8]; 74] = [
    b"",
    b"nul",
    b"nulll",
    b"Null",
    b"TRUE",
    b"tru",
    b"truex",
    b"NaN",
    b"-NaN",
    b"nan",
    b"Infinity",
    b"-Infinity",
    b"+Infinity",
    b"Inf",
    b"undefined",
    b"-",
    b"--1",
    b"+1",
    b"++1",
    b"01",
    b"-01",
    b"00",
    b"-00",
    b".5",
    b"-.5",
    b"+.5",
    b"1.",
    b"-1.",
    b"1.e1",
    b"1.5.5",
    b"1e",
    b"1e+",
    b"1e-",
    b"1E",
    b"1e1.5",
    b"1e1e1",
    b"0x10",
    b"0b1",
    b"1_000",
    b"1 000",
    b"1,5",
    b"1a",
    "\u{ff11}".as_bytes(),
    b"[",
    b"[1",
    b"[1,",
    b"[1,]",
    b"[,1]",
    b"[1,,2]",
    b"[,]",
    b"[1 2]",
    b"[1:2]",
    b"]",
    b"[1}",
    b"{\"a\"}",
    b"{\"a\":}",
    b"{\"a\" 1}",
    b"{\"a\":1,}",
    b"{,\"a\":1}",
    b"{\"a\":1 \"b\":2}",
    b"{a:1}",
    b"{'a':1}",
    b"{1:1}",
    b"{null:1}",
    b"{\"a\"::1}",
    b"'a'",
    b"\"a",
    b"\"\\\"",
    b"\"\\x00\"",
    b"\"\\u12\"",
    b"\"\\u{41}\"",
    b"\"a\nb\"",
    b"\"a\tb\"",
    b"\"a\0b\"",
];

/// Refused for a reason of their own; parsers disagree about most of them.
const REFUSED: [(&[u8], Unkeyed); 31] = [
    (b"1e400", Unkeyed::NumberRange),
    (b"-1e400", Unkeyed::NumberRange),
    (b"1e-400", Unkeyed::NumberRange),
    (b"0e400", Unkeyed::NumberRange),
    (b"1e301", Unkeyed::NumberRange),
    (b"1e9999999999999999999999", Unkeyed::NumberRange),
    (b"123123e100000", Unkeyed::NumberRange),
    (b"{\"a\":1,\"a\":2}", Unkeyed::DuplicateKey),
    (b"{\"a\":1,\"a\":1}", Unkeyed::DuplicateKey),
    (b"{\"a\":1,\"\\u0061\":1}", Unkeyed::DuplicateKey),
    (b"{\"a\":1,\"A\":1}", Unkeyed::DuplicateKey),
    (b"\"\\ud800\"", Unkeyed::LoneSurrogate),
    (b"\"\\udfff\"", Unkeyed::LoneSurrogate),
    (b"\"\\ud800\\ud800\"", Unkeyed::LoneSurrogate),
    (b"\"\\ud800\\u0041\"", Unkeyed::LoneSurrogate),
    (b"\"\\udc00\\ud800\"", Unkeyed::LoneSurrogate),
    (b"\"\\ud800abc\"", Unkeyed::LoneSurrogate),
    (b"{\"\\udead\":1}", Unkeyed::LoneSurrogate),
    (b"\"\xff\"", Unkeyed::InvalidUtf8),
    (b"\"\xc0\xaf\"", Unkeyed::InvalidUtf8),
    (b"\"\xe0\x80\xaf\"", Unkeyed::InvalidUtf8),
    (b"\"\xed\xa0\x80\"", Unkeyed::InvalidUtf8),
    (b"\"\xf4\x90\x80\x80\"", Unkeyed::InvalidUtf8),
    (b"\"\xe2\x82\"", Unkeyed::InvalidUtf8),
    (b"\x80", Unkeyed::InvalidUtf8),
    (b"{\"\xe9\":1}", Unkeyed::InvalidUtf8),
    (b"\xef\xbb\xbf1", Unkeyed::InvalidJson),
    (b"\xc2\xa01", Unkeyed::InvalidJson),
    (b"\xe2\x80\xa81", Unkeyed::InvalidJson),
    (b"\x0c1", Unkeyed::InvalidJson),
    (b"/**/1", Unkeyed::InvalidJson),
];

/// What stands before a good body, what behind it, and the verdict.
type Around = (&'static [u8], &'static [u8], Result<(), Unkeyed>);

/// What surrounds the JSON of a good body.
const AROUND: [Around; 14] = [
    (b"", b"", Ok(())),
    (b" \n\t\r", b" \n\t\r", Ok(())),
    (b"", b"x", Err(Unkeyed::InvalidJson)),
    (b"", b"{}", Err(Unkeyed::InvalidJson)),
    (b"", b"}", Err(Unkeyed::InvalidJson)),
    (b"", b",", Err(Unkeyed::InvalidJson)),
    (b"", b"\0", Err(Unkeyed::InvalidJson)),
    (b"", b"// end", Err(Unkeyed::InvalidJson)),
    (b"", b"\xff", Err(Unkeyed::InvalidUtf8)),
    (b"\xef\xbb\xbf", b"", Err(Unkeyed::Bom)),
    (b"\xff\xfe", b"", Err(Unkeyed::InvalidUtf8)),
    (b"\xef\xbb", b"", Err(Unkeyed::InvalidUtf8)),
    (b"x", b"", Err(Unkeyed::InvalidJson)),
    (b"\0", b"", Err(Unkeyed::InvalidJson)),
];

fn with(value: &[u8]) -> Vec<u8> {
    [br#"{"model":"m","messages":[],"x":"#, value, b"}"].concat()
}

/// Returns our verdict after asking `serde_json` for its own.
fn verdict(body: &[u8]) -> Result<(), Unkeyed> {
    let ours = canon(body).map(drop);
    let theirs = serde_json::from_slice::<Value>(body);
    let text = String::from_utf8_lossy(body);
    assert!(
        ours.is_err() || theirs.is_ok(),
        "serde_json refuses {text}: {theirs:?}"
    );
    ours
}

#[test]
fn json_that_all_parsers_read_alike_is_read() {
    for value in ACCEPTED {
        assert_eq!(
            verdict(&with(value)),
            Ok(()),
            "{}",
            String::from_utf8_lossy(value)
        );
    }
}

#[test]
fn what_is_no_json_is_refused() {
    for value in INVALID {
        assert_eq!(
            verdict(&with(value)),
            Err(Unkeyed::InvalidJson),
            "{}",
            String::from_utf8_lossy(value)
        );
    }
}

#[test]
fn json_that_parsers_disagree_about_is_refused_by_its_name() {
    for (value, reason) in REFUSED {
        assert_eq!(
            verdict(&with(value)),
            Err(reason),
            "{}",
            String::from_utf8_lossy(value)
        );
    }
}

#[test]
fn nothing_but_whitespace_may_surround_the_body() {
    for (before, after, expected) in AROUND {
        let body = [before, &with(b"1"), after].concat();
        assert_eq!(
            verdict(&body),
            expected,
            "{}",
            String::from_utf8_lossy(&body)
        );
    }
}

#[test]
fn every_beginning_of_a_body_is_refused() {
    let body = with(br#"[{"b":"\u00e9\n","a":-1.5e3},true,null]"#);
    assert_eq!(verdict(&body), Ok(()));
    for end in 0..body.len() {
        assert_eq!(
            verdict(&body[..end]),
            Err(Unkeyed::InvalidJson),
            "{end} bytes"
        );
    }
}
