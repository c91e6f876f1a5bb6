//! Many who ask at once, and disks that do not answer.

use tokio::{sync::mpsc::Receiver, task::JoinSet};

use super::*;

/// A disk whose readers never answer, and what they were asked.
fn frozen(house: &House, budget: Duration) -> (Disk, Receiver<Ask>) {
    let (disk, questions, _) = frozen_with_reports(house, budget);
    (disk, questions)
}

/// The same, and which reports were asked for.
fn frozen_with_reports(house: &House, budget: Duration) -> (Disk, Receiver<Ask>, Receiver<Ask>) {
    let (asks, questions) = mpsc::channel(ASKS);
    let (reports, wanted) = mpsc::channel(REPORTS);
    let shared = Shared {
        options: Options {
            budget,
            ..house.options()
        },
        queue: Queue::behind(1 << 30),
        counts: Counters::default(),
        working: Working::default(),
        looks: Looks::default(),
        edition: AtomicU64::new(0),
    };
    let handle = Handle {
        shared: Arc::new(shared),
        asks,
        reports,
        circuit: Circuit::default(),
        ended: Mutex::default(),
    };
    (Disk(Arc::new(handle)), questions, wanted)
}

fn asked(questions: &mut Receiver<Ask>) -> Vec<Slot> {
    let all = std::iter::from_fn(|| questions.try_recv().ok());
    all.filter_map(|ask| match ask {
        Ask::Entry(slot) => Some(slot),
        Ask::Page { .. } | Ask::Totals { .. } => None,
    })
    .collect()
}

fn answer(disk: &Disk, number: u16) {
    let found = Found {
        record: Record::of(&entry(number), NOON, Vec::new()),
        softened: false,
    };
    let answer = Ok(Some(Arc::new(found)));
    disk.0.shared.looks.answer(&slot(number), &answer, true);
}

/// Starts a look-up, and has it wait.
async fn ask(asking: &mut JoinSet<Option<Entry>>, disk: &Disk, number: u16) {
    let disk = disk.clone();
    asking.spawn(async move { disk.get(&slot(number)).await });
    tokio::task::yield_now().await;
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_does_not_answer_costs_three_calls_their_budget_and_then_none() {
    let house = House::new();
    let (disk, mut questions) = frozen(&house, BUDGET);
    let wait = async || {
        let start = Instant::now();
        assert!(disk.get(&slot(1)).await.is_none());
        start.elapsed()
    };
    for _ in 0..3 {
        // Timers have the grain of a millisecond.
        assert!(wait().await.abs_diff(BUDGET) <= Duration::from_millis(1));
    }
    assert_eq!(wait().await, Duration::ZERO);
    tokio::time::advance(Duration::from_secs(5)).await;
    assert!(wait().await >= BUDGET, "a probe");
    assert_eq!(wait().await, Duration::ZERO);
    assert_eq!(disk.counts().slow, 4);
    assert_eq!(asked(&mut questions), [slot(1)], "once is enough");
}

#[tokio::test(start_paused = true)]
async fn a_long_report_of_counters_keeps_no_look_up_waiting() {
    let house = House::new();
    let (disk, mut questions, mut wanted) = frozen_with_reports(&house, BUDGET);
    let day = Day::of(SystemTime::UNIX_EPOCH);
    let reporting = disk.clone();
    let mut report = JoinSet::new();
    report.spawn(async move { reporting.totals(day.back(400), day, 7).await });
    let ask = wanted.recv().await;
    let Some(Ask::Totals { reply, .. }) = ask else {
        panic!("{ask:?}");
    };
    assert!(questions.try_recv().is_err(), "the readers are free");
    drop(reply.send(Ok(Stored::default())));
    assert_eq!(report.join_all().await, [Some(Stored::default())]);
}

#[tokio::test]
async fn a_thousand_different_entries_asked_for_at_once_are_all_found() {
    const ENTRIES: u16 = 1_200;
    let house = House::new();
    house.write((0..ENTRIES).map(entry)).await;
    let disk = house.open().await;
    let mut asking = JoinSet::new();
    for number in 0..ENTRIES {
        ask(&mut asking, &disk, number).await;
    }
    let found = asking.join_all().await.into_iter().flatten();
    assert_eq!(found.count(), usize::from(ENTRIES));
    assert_eq!(disk.counts().slow, 0);
}

#[tokio::test]
async fn fifty_calls_for_the_same_entry_read_it_once() {
    let house = House::new();
    let (disk, mut questions) = frozen(&house, PATIENCE);
    let mut asking = JoinSet::new();
    for _ in 0..50 {
        ask(&mut asking, &disk, 1).await;
    }
    assert_eq!(asked(&mut questions), [slot(1)]);
    answer(&disk, 1);
    let found = asking.join_all().await.into_iter().flatten();
    assert_eq!(found.count(), 50);
}

#[tokio::test(start_paused = true)]
async fn many_who_wait_for_one_slow_read_count_as_one_failure() {
    let house = House::new();
    let (disk, _questions) = frozen(&house, BUDGET);
    let mut asking = JoinSet::new();
    for _ in 0..50 {
        ask(&mut asking, &disk, 1).await;
    }
    asking.join_all().await;
    assert_eq!(disk.counts().slow, 50);
    assert!(disk.0.circuit.admits(Instant::now()));
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_is_busy_with_others_is_not_skipped() {
    let house = House::new();
    let (disk, _questions) = frozen(&house, BUDGET);
    for number in 0..9 {
        let mut asking = JoinSet::new();
        ask(&mut asking, &disk, number).await;
        ask(&mut asking, &disk, 100).await;
        answer(&disk, 100);
        let found = asking.join_all().await.into_iter().flatten();
        assert_eq!(found.count(), 1);
    }
    assert_eq!(disk.counts().slow, 9);
    assert!(disk.0.circuit.admits(Instant::now()));
}

#[tokio::test]
async fn who_waits_with_one_that_hangs_up_before_it_could_ask_asks_instead() {
    let house = House::new();
    let (disk, mut questions) = frozen(&house, PATIENCE);
    let mut others = JoinSet::new();
    for number in 0..u16::try_from(ASKS).unwrap() {
        ask(&mut others, &disk, number).await;
    }
    let (mut first, mut second) = (JoinSet::new(), JoinSet::new());
    ask(&mut first, &disk, 999).await;
    ask(&mut second, &disk, 999).await;
    first.shutdown().await;
    assert_eq!(asked(&mut questions).len(), ASKS);
    tokio::task::yield_now().await;
    assert!(matches!(questions.recv().await, Some(Ask::Entry(asked)) if asked == slot(999)));
    answer(&disk, 999);
    assert!(second.join_next().await.unwrap().unwrap().is_some());
}

#[tokio::test]
async fn what_is_being_read_while_it_is_replaced_is_asked_for_again() {
    let house = House::new();
    let (disk, mut questions) = frozen(&house, PATIENCE);
    let mut asking = JoinSet::new();
    ask(&mut asking, &disk, 1).await;
    disk.put(Arc::new(entry(1)));
    tokio::task::yield_now().await;
    assert_eq!(asked(&mut questions), [slot(1), slot(1)]);
}

/// What a call may wait for the disk, where that is what a test is about.
const BUDGET: Duration = Duration::from_millis(50);
