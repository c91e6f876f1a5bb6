//! The registry by itself, without a disk, on paused time.

use super::*;

const TTL: Duration = Duration::from_secs(60);

fn proofs(kept: &[disk::Proof]) -> Proofs {
    Proofs::new(
        Secret::from_bytes([3; 32]),
        &[vec!["up".to_owned()]],
        TTL,
        None,
        kept,
    )
}

fn credential(token: &str) -> Fingerprint {
    Secret::from_bytes([3; 32]).fingerprint("caller", &[token.as_bytes()])
}

fn events(proofs: &Proofs) -> [u64; Event::ALL.len()] {
    proofs.counts().events
}

#[tokio::test(start_paused = true)]
async fn a_proof_gets_older_until_it_is_renewed() {
    let proofs = proofs(&[]);
    let subject = proofs.credential(0, &credential("a"));
    assert_eq!(proofs.known(&subject, Instant::now()), Known::Missing);
    proofs.accept(subject, Instant::now());
    tokio::time::advance(TTL).await;
    assert_eq!(proofs.known(&subject, Instant::now()), Known::Proven(TTL));
    proofs.accept(subject, Instant::now());
    let now = Instant::now();
    assert_eq!(proofs.known(&subject, now), Known::Proven(Duration::ZERO));
    assert_eq!(events(&proofs), [1, 1, 0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_holds_until_a_success() {
    let proofs = proofs(&[]);
    let subject = proofs.credential(0, &credential("a"));
    proofs.refuse(subject, Instant::now());
    let now = Instant::now();
    assert_eq!(proofs.known(&subject, now), Known::Missing, "anybody's");
    proofs.accept(subject, now);
    proofs.refuse(subject, now);
    proofs.refuse(subject, now);
    assert_eq!(proofs.known(&subject, now), Known::Ended);
    proofs.accept(subject, now);
    assert_eq!(proofs.known(&subject, now), Known::Proven(Duration::ZERO));
    assert_eq!(events(&proofs), [2, 0, 1, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn an_upstream_that_could_not_say_is_left_alone_for_a_moment() {
    let proofs = proofs(&[]);
    let standing = proofs.standing_or_new(proofs.credential(0, &credential("a")));
    let now = Instant::now();
    assert_eq!(proofs.was_in_vain(&standing, now), (false, false));
    proofs.in_vain(&standing, now);
    assert_eq!(proofs.was_in_vain(&standing, now), (true, true));
    assert_eq!(proofs.was_in_vain(&standing, now + PAUSE), (true, false));
    proofs.accept(proofs.credential(0, &credential("a")), now);
    assert_eq!(proofs.was_in_vain(&standing, now), (false, false));
}

#[tokio::test(start_paused = true)]
async fn credentials_and_models_are_apart() {
    let proofs = proofs(&[]);
    let (a, b) = (credential("a"), credential("b"));
    let all = [
        proofs.credential(0, &a),
        proofs.credential(0, &b),
        proofs.model(0, &a, "m"),
        proofs.model(0, &a, "n"),
        proofs.model(0, &b, "m"),
    ];
    for (i, one) in all.iter().enumerate() {
        for (j, other) in all.iter().enumerate() {
            assert_eq!(one == other, i == j, "{i} and {j}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_kept_is_known_with_its_age() {
    let subject = |byte| [byte; 32];
    let kept = [(1, false), (2, true)].map(|(byte, ended)| disk::Proof {
        subject: subject(byte),
        age: TTL,
        ended,
    });
    let proofs = proofs(&kept);
    let now = Instant::now();
    assert_eq!(proofs.known(&Subject(subject(1)), now), Known::Proven(TTL));
    assert_eq!(proofs.known(&Subject(subject(2)), now), Known::Ended);
}

#[tokio::test(start_paused = true)]
async fn only_one_at_a_time_renews() {
    let standing = Standing::new(NEVER);
    let turn = standing.try_turn().unwrap();
    assert!(standing.try_turn().is_none());
    drop(turn);
    assert!(standing.try_turn().is_some());
}

#[tokio::test(start_paused = true)]
async fn the_registry_is_bounded() {
    let proofs = proofs(&[]);
    for number in 0..MOST + 1_000 {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        proofs.accept(Subject(bytes), Instant::now());
    }
    let counts = proofs.counts();
    assert!(counts.kept <= MOST as u64, "{}", counts.kept);
    assert!(events(&proofs)[4] >= 1_000);
}

#[tokio::test(start_paused = true)]
async fn of_what_other_replicas_were_told_the_later_word_counts() {
    let proofs = proofs(&[]);
    let subject = proofs.credential(0, &credential("a"));
    let told = |age, ended| {
        proofs.learn(&disk::Proof {
            subject: subject.0,
            age: Duration::from_secs(age),
            ended,
        });
        proofs.known(&subject, Instant::now())
    };
    assert_eq!(told(0, true), Known::Missing, "anybody's refusal");
    assert_eq!(told(20, false), Known::Proven(Duration::from_secs(20)));
    assert_eq!(told(30, true), Known::Proven(Duration::from_secs(20)));
    assert_eq!(told(10, true), Known::Ended);
    assert_eq!(told(15, false), Known::Ended);
    assert_eq!(told(5, false), Known::Proven(Duration::from_secs(5)));
    proofs.refuse(subject, Instant::now());
    assert_eq!(told(1, false), Known::Ended, "what was said here is later");
}

#[tokio::test]
async fn whichever_model_was_asked_for_before_a_model_is_the_same_subject() {
    let places = ["up", "other"].map(|name| vec![name.to_owned()]);
    let new = |secret| Proofs::new(secret, &places, TTL, None, &[]);
    let secret = Secret::from_bytes([3; 32]);
    let proofs = new(secret.clone());
    let asked = [(0, "a"), (0, "a"), (1, "a"), (1, "b"), (0, "b"), (0, "")];
    for bytes in [[3; 32], [4; 32]] {
        secret.adopt(bytes);
        for (upstream, model) in asked {
            let of = |proofs: &Proofs| proofs.model(upstream, &credential("a"), model);
            let fresh = new(Secret::from_bytes(bytes));
            assert_eq!(of(&proofs), of(&fresh), "{upstream} {model} {bytes:?}");
        }
    }
}
