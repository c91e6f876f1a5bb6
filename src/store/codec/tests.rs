//! Envelopes there and back, and every way to spoil one.

use http::header;
use proptest::prelude::*;

use super::*;

fn slot() -> Slot {
    Slot {
        key: Key::from_bytes([7; 32]),
        delivery: 9,
    }
}

fn record() -> Record {
    Record {
        slot: slot(),
        variant: 0,
        alias: false,
        form: Form::Stream { usage: true },
        made: 1_700_000_000_000,
        lifetime: Duration::from_secs(60),
        status: StatusCode::OK,
        usage: Some(Usage {
            input_tokens: 1,
            output_tokens: u64::MAX,
        }),
        upstream: HeaderValue::from_static("openai"),
        label: Label {
            scope: vec![0, 255],
            dialect: "chat".to_owned(),
            model: "gpt-4o".to_owned(),
            namespace: "v2".to_owned(),
        },
        tags: vec!["a".to_owned(), "b".to_owned()],
        generations: vec![(1, 2), (3, 4)],
        headers: HeaderMap::from_iter([(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        )]),
        body: Bytes::from_static(b"{\"choices\":[]}"),
    }
}

/// Returns an envelope whose content was changed and whose checksum was made to hold.
fn forged(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut envelope = encode(&record()).unwrap();
    change(&mut envelope);
    let sum: Vec<_> = checksum(&envelope[PREFIX..]).collect();
    envelope[PREFIX - CHECKSUM..PREFIX].copy_from_slice(&sum);
    envelope
}

fn read(envelope: &[u8]) -> Result<Record, Damage> {
    decode(envelope, &slot(), LIMIT)
}

const LIMIT: usize = 1 << 16;
/// Where flags, status and the rest stand in the envelope of [`record`].
const ALIAS: usize = PREFIX + 32 + 8 + 2;
const FORM: usize = ALIAS + 1;
const STATUS: usize = FORM + 1 + 8 + 8;
const USAGE: usize = STATUS + 2;
const SCOPE: usize = USAGE + 1 + 16;

#[test]
fn what_is_written_is_read_back() {
    let whole = record();
    assert_eq!(read(&encode(&whole).unwrap()), Ok(whole));
    let bare = Record {
        usage: None,
        alias: true,
        variant: 3,
        tags: Vec::new(),
        generations: Vec::new(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        ..record()
    };
    assert_eq!(read(&encode(&bare).unwrap()), Ok(bare));
}

#[test]
fn headers_of_one_name_keep_their_order() {
    let mut many = record();
    for value in ["one", "two", "three"] {
        many.headers
            .append("x-part", HeaderValue::from_static(value));
    }
    let back = read(&encode(&many).unwrap()).unwrap();
    let values: Vec<_> = back.headers.get_all("x-part").iter().collect();
    assert_eq!(values, ["one", "two", "three"]);
}

#[test]
fn every_damage_has_its_name() {
    let mut magic = encode(&record()).unwrap();
    magic[0] = b'r';
    let mut version = encode(&record()).unwrap();
    version[4] = 2;
    let mut sum = encode(&record()).unwrap();
    sum[PREFIX] ^= 1;
    let huge = u32::MAX.to_le_bytes();
    let table = [
        (magic, Damage::Magic),
        (Vec::new(), Damage::Magic),
        (version, Damage::Version),
        (sum, Damage::Checksum),
        (forged(|e| e[PREFIX] ^= 1), Damage::Key),
        (forged(|e| e[PREFIX + 32] ^= 1), Damage::Key),
        (forged(|e| e[ALIAS] = 2), Damage::Form),
        (forged(|e| e[FORM] = 3), Damage::Form),
        (forged(|e| e[STATUS] = 0), Damage::Form),
        (forged(|e| e[USAGE] = 0), Damage::Form),
        (
            forged(|e| e[SCOPE..SCOPE + 4].copy_from_slice(&huge)),
            Damage::Form,
        ),
        (forged(|e| e.truncate(SCOPE)), Damage::Form),
        (forged(|e| e.truncate(e.len() - 1)), Damage::Body),
        (forged(|e| e.push(0)), Damage::Body),
    ];
    for (at, (envelope, damage)) in table.into_iter().enumerate() {
        assert_eq!(read(&envelope), Err(damage), "row {at}");
        assert_eq!(read(&forged(|_| {})), Ok(record()), "after row {at}");
    }
}

#[test]
fn a_body_that_is_not_as_long_as_it_says_is_refused_before_room_is_made_for_it() {
    let packed = zstd::bulk::compress(&record().body, LEVEL).unwrap();
    let length = |said: u32| {
        forged(|e| {
            let at = e.len() - packed.len() - 4;
            e[at..at + 4].copy_from_slice(&said.to_le_bytes());
        })
    };
    let actual = u32::try_from(record().body.len()).unwrap();
    assert_eq!(read(&length(u32::MAX)), Err(Damage::TooLarge));
    assert_eq!(read(&length(actual - 1)), Err(Damage::Body));
    assert_eq!(read(&length(actual + 1)), Err(Damage::Body));
    assert_eq!(read(&length(actual)), Ok(record()));
    assert_eq!(
        decode(&encode(&record()).unwrap(), &slot(), 13),
        Err(Damage::TooLarge)
    );
}

#[test]
fn every_single_bit_counts() {
    let envelope = encode(&record()).unwrap();
    for bit in 0..envelope.len() * 8 {
        let mut flipped = envelope.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&flipped).is_err(), "bit {bit}");
    }
}

#[test]
fn no_part_of_an_envelope_is_an_entry() {
    let envelope = encode(&record()).unwrap();
    for length in 0..envelope.len() {
        assert!(read(&envelope[..length]).is_err(), "{length} bytes");
    }
}

fn text() -> impl Strategy<Value = String> {
    ".{0,20}"
}

fn headers() -> impl Strategy<Value = HeaderMap> {
    let pair = ("[a-z][a-z-]{0,10}", "[ -~]{0,20}");
    prop::collection::vec(pair, 0..8).prop_map(|pairs| {
        let pairs = pairs.iter().filter_map(|(name, value)| {
            Some((
                HeaderName::from_bytes(name.as_bytes()).ok()?,
                HeaderValue::from_str(value).ok()?,
            ))
        });
        pairs.collect::<HeaderMap>()
    })
}

prop_compose! {
    fn any_label()(scope: Vec<u8>, dialect in text(), model in text(), namespace in text()) -> Label {
        Label { scope, dialect, model, namespace }
    }
}

prop_compose! {
    fn any_record()(
        key: [u8; 32], delivery: u64, variant: u16, alias: bool, form in 0..Form::ALL.len(), made: u64, lifetime: u64,
        status in 100_u16..1000, usage: Option<(u64, u64)>, label in any_label(),
        tags in prop::collection::vec(text(), 0..4), generations: Vec<(u64, u64)>,
        headers in headers(), body in prop::collection::vec(any::<u8>(), 0..2000),
    ) -> Record {
        let usage = usage.map(|(input_tokens, output_tokens)| Usage { input_tokens, output_tokens });
        Record {
            slot: Slot { key: Key::from_bytes(key), delivery },
            variant, alias, form: Form::ALL[form], made,
            lifetime: Duration::from_millis(lifetime),
            status: StatusCode::from_u16(status).unwrap(),
            usage,
            upstream: HeaderValue::from_static("up"),
            label, tags, generations, headers,
            body: Bytes::from(body),
        }
    }
}

proptest! {
    #[test]
    fn any_record_is_read_back(record in any_record()) {
        let envelope = encode(&record).unwrap();
        prop_assert_eq!(decode(&envelope, &record.slot, LIMIT), Ok(record));
    }

    #[test]
    fn any_bytes_are_refused_without_a_panic(bytes: Vec<u8>) {
        prop_assert!(read(&bytes).is_err());
    }

    /// Whoever can make the checksum hold still gets no panic and no more room than the limit.
    #[test]
    fn any_content_under_a_good_checksum_is_read_or_refused(
        content: Vec<u8>, kept in 0_usize..200, spoilt: Vec<(prop::sample::Index, u8)>,
    ) {
        let forged = forged(|envelope| {
            let length = envelope.len().min(PREFIX + kept.max(40));
            if content.len() % 2 == 0 {
                envelope.truncate(length);
                envelope.extend(&content);
            }
            for (at, byte) in spoilt {
                let at = PREFIX + 40 + at.index(envelope.len() - PREFIX);
                if let Some(place) = envelope.get_mut(at) {
                    *place = byte;
                }
            }
        });
        if let Ok(record) = read(&forged) {
            prop_assert!(record.body.len() <= LIMIT);
        }
    }
}

#[test]
fn a_head_is_read_of_an_envelope_that_is_cut_off_behind_it() {
    let (record, envelope) = (record(), encode(&record()).unwrap());
    let body = packed(&record.body).unwrap().len();
    let front = &envelope[..envelope.len() - body];
    let (slot, card) = decode_head(front).unwrap();
    assert_eq!(slot, record.slot);
    assert_eq!(Ok(card), decode_card(&encode_card(&record).unwrap()));
    assert_eq!(decode_head(&front[..PREFIX + 60]), Err(Damage::Form));
    assert_eq!(decode_head(b"another program's"), Err(Damage::Magic));
}

#[test]
fn the_moment_it_was_made_stands_where_it_is_looked_for() {
    let envelope = encode(&record()).unwrap();
    let made = record().made.to_le_bytes();
    assert_eq!(envelope[MADE..MADE + 8], made);
}
