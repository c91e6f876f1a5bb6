//! A connection's waker that knows of one wake-up to leave out.
//!
//! hyper passes a request's body through a channel between the connection and whoever reads it; whoever takes a piece
//! wakes the sender (hyper 1.12, `body/chan.rs`). Here both are one task, and a task that wakes itself while it runs is put
//! behind all others, for which the runtime wakes another thread. With a body that came whole nobody is left to be
//! woken, and that is almost every call.
//!
//! # Scope
//! A wake-up is left out only if it comes from this connection's own poll, out of [`while_taking`], and the caller there
//! says that nothing more was to come. Any other is passed on.

use std::{
    cell::Cell,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

/// The waker of one connection.
#[derive(Debug, Default)]
pub(super) struct Waking(Option<(Waker, Arc<OfConnection>)>);

/// Wakes the task of a connection, unless it says so itself where that is to be noted only.
#[derive(Debug)]
struct OfConnection(Waker);

thread_local! {
    /// Which connection is being polled by this thread.
    static POLLED: Cell<*const OfConnection> = const { Cell::new(std::ptr::null()) };
    /// Whether a piece is being taken, and whether the connection was woken by that.
    static TAKING: Cell<Taking> = const { Cell::new(Taking::No) };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taking {
    No,
    Quietly,
    Woken,
}

impl Waking {
    /// Polls a connection.
    pub(super) fn poll<T>(
        &mut self,
        cx: &Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let (waker, of_connection) = self.of(cx.waker());
        let _polled = Restored::set(&POLLED, Arc::as_ptr(of_connection));
        poll(&mut Context::from_waker(waker))
    }

    /// Returns the connection's waker, made anew where its task has another one by now.
    fn of(&mut self, task: &Waker) -> &(Waker, Arc<OfConnection>) {
        self.0.take_if(|(_, known)| !known.0.will_wake(task));
        self.0.get_or_insert_with(|| {
            let of_connection = Arc::new(OfConnection(task.clone()));
            (Waker::from(of_connection.clone()), of_connection)
        })
    }
}

/// Takes a piece of a request's body by `take`. If that woke the connection that is being polled, it is woken only where
/// `wants_more` says so of what was taken from.
pub(super) fn while_taking<B, T>(
    body: &mut B,
    cx: &mut Context<'_>,
    take: impl FnOnce(&mut B, &mut Context<'_>) -> T,
    wants_more: impl FnOnce(&B) -> bool,
) -> T {
    let taking = Restored::set(&TAKING, Taking::Quietly);
    let taken = take(body, cx);
    let woken = TAKING.get() == Taking::Woken;
    drop(taking);
    if woken && wants_more(body) {
        cx.waker().wake_by_ref();
    }
    taken
}

impl OfConnection {
    /// Returns whether this wake-up is one to be noted only.
    fn is_quiet(self: &Arc<Self>) -> bool {
        let quiet = TAKING.get() != Taking::No && POLLED.get() == Arc::as_ptr(self);
        if quiet {
            TAKING.set(Taking::Woken);
        }
        quiet
    }
}

impl Wake for OfConnection {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_quiet() {
            self.0.wake_by_ref();
        }
    }
}

/// Puts a thread's value back when dropped, also by a panic.
struct Restored<T: Copy + 'static> {
    place: &'static std::thread::LocalKey<Cell<T>>,
    before: T,
}

impl<T: Copy> Restored<T> {
    fn set(place: &'static std::thread::LocalKey<Cell<T>>, value: T) -> Self {
        let before = place.replace(value);
        Self { place, before }
    }
}

impl<T: Copy> Drop for Restored<T> {
    fn drop(&mut self) {
        self.place.set(self.before);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// A task that counts how often it was woken.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Polls a connection by `poll`; returns how often its task was woken meanwhile.
    fn woken(poll: impl FnOnce(&mut Context<'_>)) -> usize {
        let task = Arc::new(Task::default());
        let waker = Waker::from(task.clone());
        let polled = Waking::default().poll(&Context::from_waker(&waker), |cx| {
            poll(cx);
            Poll::<()>::Pending
        });
        assert!(polled.is_pending());
        task.0.load(Ordering::Relaxed)
    }

    fn takes(cx: &mut Context<'_>, wakes: &Waker, wants_more: bool) {
        let take = |(): &mut (), _: &mut Context<'_>| wakes.wake_by_ref();
        while_taking(&mut (), cx, take, |()| wants_more);
    }

    fn takes_its_own(cx: &mut Context<'_>, wants_more: bool) {
        let own = cx.waker().clone();
        takes(cx, &own, wants_more);
    }

    #[test]
    fn the_taker_of_the_last_piece_does_not_wake_its_own_task() {
        assert_eq!(woken(|cx| takes_its_own(cx, false)), 0);
    }

    #[test]
    fn the_taker_of_any_other_piece_does() {
        assert_eq!(woken(|cx| takes_its_own(cx, true)), 1);
    }

    #[test]
    fn a_wake_up_that_has_nothing_to_do_with_a_body_is_passed_on() {
        let once = |cx: &mut Context<'_>| {
            takes_its_own(cx, false);
            cx.waker().wake_by_ref();
        };
        assert_eq!(woken(once), 1);
    }

    #[test]
    fn another_thread_is_heard_while_a_piece_is_taken() {
        let wake = |cx: &mut Context<'_>| {
            let waker = cx.waker().clone();
            let take = |(): &mut (), _: &mut Context<'_>| {
                std::thread::spawn(move || waker.wake()).join().unwrap();
            };
            while_taking(&mut (), cx, take, |()| false);
        };
        assert_eq!(woken(wake), 1);
    }

    #[test]
    fn another_connection_is_woken_by_whoever_takes_a_piece_of_it() {
        let mut other = None;
        let silent = woken(|cx| other = Some(cx.waker().clone()));
        assert_eq!(silent, 0);
        let other = other.unwrap();
        let task = Arc::new(Task::default());
        let of_task = Waker::from(task.clone());
        let mut waking = Waking::default();
        let mut theirs = None;
        let polled = waking.poll(&Context::from_waker(&of_task), |cx| {
            theirs = Some(cx.waker().clone());
            Poll::<()>::Pending
        });
        assert!(polled.is_pending() && !theirs.as_ref().unwrap().will_wake(&other));
        assert_eq!(woken(|cx| takes(cx, theirs.as_ref().unwrap(), false)), 0);
        assert_eq!(task.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_connection_keeps_its_waker_as_long_as_its_task_does() {
        let mut waking = Waking::default();
        let [first, second] = [(); 2].map(|()| Waker::from(Arc::new(Task::default())));
        let one = waking.of(&first).0.clone();
        assert!(one.will_wake(&waking.of(&first).0));
        assert!(!one.will_wake(&waking.of(&second).0));
    }
}
