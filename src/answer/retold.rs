//! A finished recording in other forms than its own: each is told once, whoever asks, and kept as long as the recording is.
//!
//! # Where it is told
//! What has at most [`SMALL`] bytes is told by the call that asks, on the spot. A larger recording would keep other calls
//! waiting for their turn on the same thread, so it is told on a thread for such work, `AT_A_TIME` of them at a time;
//! calls that ask for the same form meanwhile wait for the one telling.
//!
//! # Scope
//! What is told is kept from the first time on: a key that was asked for in two forms once will be again. Whoever keeps
//! the recording has to count what is told of it ([`Retold::count`]).

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use tokio::sync::{OnceCell, Semaphore};

use crate::{
    answer::tasks::Tasks,
    dialect::chat::{Unreadable, convert, form::Form},
};

/// What has been told of one recording; clones share it.
#[derive(Clone, Default)]
pub struct Retold(Arc<Inner>);

/// Tells recordings anew; clones share the threads that it may use.
#[derive(Clone, Debug)]
pub struct Teller {
    tasks: Tasks,
    room: Arc<Semaphore>,
}

/// A recording told in one form, or that it cannot be.
pub type Telling = Result<Bytes, Unreadable>;

#[derive(Default)]
struct Inner {
    /// Made when the first is told: most recordings are asked for in their own form only.
    forms: OnceLock<Box<Forms>>,
    /// Bytes of the tellings that are part of their keeper's account.
    counted: AtomicU64,
}

#[derive(Default)]
struct Forms {
    plain: OnceCell<Telling>,
    telling: OnceCell<Telling>,
    silent: OnceCell<Telling>,
}

impl Retold {
    /// Tells `recording`, made in the form `from`, in the form `to`, unless that takes longer than a call may keep its
    /// thread: then [`Teller::tell`] is to do it.
    pub fn at_once(&self, recording: &Bytes, from: Form, to: Form) -> Option<Telling> {
        if from.passes_for(to) {
            return Some(Ok(recording.clone()));
        }
        if let Some(telling) = self.form(to).get() {
            return Some(telling.clone());
        }
        if recording.len() > SMALL {
            return None;
        }
        let telling = tell(recording, from, to);
        // Somebody else may have been faster; what is told is the same.
        let _ = self.form(to).set(telling.clone());
        Some(telling)
    }

    /// Returns what the tellings take, bytes.
    pub fn bytes(&self) -> u64 {
        let Some(forms) = self.0.forms.get() else {
            return 0;
        };
        let tellings = [&forms.plain, &forms.telling, &forms.silent];
        let tellings = tellings.into_iter().filter_map(OnceCell::get).flatten();
        tellings.map(|telling| telling.len() as u64).sum()
    }

    /// Returns how much of that is part of the keeper's account, bytes.
    pub fn counted(&self) -> u64 {
        self.0.counted.load(Ordering::Relaxed)
    }

    /// Makes all of it part of the keeper's account.
    pub fn count(&self) {
        self.0.counted.store(self.bytes(), Ordering::Relaxed);
    }

    /// Returns whether both are of one recording.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    fn form(&self, form: Form) -> &OnceCell<Telling> {
        let forms = self.0.forms.get_or_init(Box::default);
        match form {
            Form::Plain => &forms.plain,
            Form::Stream { usage: true } => &forms.telling,
            Form::Stream { usage: false } => &forms.silent,
        }
    }
}

impl Teller {
    /// Makes a teller whose work belongs to `tasks`.
    pub fn new(tasks: Tasks) -> Self {
        Self {
            tasks,
            room: Arc::new(Semaphore::new(AT_A_TIME)),
        }
    }

    /// Tells a `recording`, made in the form `from`, in the form `to`, or waits for whoever is at it; the recording is asked
    /// for only if it has to be told.
    pub async fn tell(
        &self,
        retold: &Retold,
        recording: impl FnOnce() -> Bytes,
        from: Form,
        to: Form,
    ) -> Telling {
        let telling = retold.form(to).get_or_init(|| async move {
            let recording = recording();
            if recording.len() <= SMALL {
                return tell(&recording, from, to);
            }
            self.tell_apart(recording, from, to).await
        });
        telling.await.clone()
    }

    async fn tell_apart(&self, recording: Bytes, from: Form, to: Form) -> Telling {
        let room = self.room.clone().acquire_owned().await;
        let telling = self.tasks.spawn_blocking(move || {
            let telling = tell(&recording, from, to);
            drop(room);
            telling
        });
        // A panic in there is a recording that cannot be told.
        telling.await.unwrap_or(Err(Unreadable))
    }
}

fn tell(recording: &[u8], from: Form, to: Form) -> Telling {
    let mut telling = convert(recording, from, to)?;
    // It stays, and was made with room for more.
    telling.shrink_to_fit();
    Ok(Bytes::from(telling))
}

impl fmt::Debug for Retold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Retold({} bytes)", self.bytes())
    }
}

/// The largest recording that is told on the spot, bytes: some tenths of a millisecond.
pub const SMALL: usize = 64 << 10;
/// How many larger ones are told at a time.
const AT_A_TIME: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    const SILENT: Form = Form::Stream { usage: false };

    fn completion(content: usize) -> Bytes {
        let content = "x".repeat(content);
        Bytes::from(format!(
            r#"{{"choices":[{{"index":0,"message":{{"content":"{content}"}},"finish_reason":"stop"}}]}}"#
        ))
    }

    #[tokio::test]
    async fn a_large_recording_is_told_once_for_all_who_ask_and_never_on_the_spot() {
        let (retold, teller) = (Retold::default(), Teller::new(Tasks::default()));
        let recording = completion(SMALL);
        assert_eq!(retold.at_once(&recording, Form::Plain, SILENT), None);
        let ask = || teller.tell(&retold, || recording.clone(), Form::Plain, SILENT);
        let (first, second) = tokio::join!(ask(), ask());
        let (first, second) = (first.unwrap(), second.unwrap());
        assert_eq!(first.as_ptr(), second.as_ptr());
        let later = retold.at_once(&recording, Form::Plain, SILENT).unwrap();
        assert_eq!(later.unwrap().as_ptr(), first.as_ptr());
        assert_eq!(retold.bytes(), first.len() as u64);
    }

    #[tokio::test]
    async fn who_leaves_while_it_is_told_does_not_leave_the_others_without() {
        let (retold, teller) = (Retold::default(), Teller::new(Tasks::default()));
        let recording = completion(SMALL);
        let ask = || teller.tell(&retold, || recording.clone(), Form::Plain, SILENT);
        {
            let mut first = std::pin::pin!(ask());
            assert!(futures_util::poll!(&mut first).is_pending());
        }
        assert!(ask().await.is_ok());
    }

    #[test]
    fn what_cannot_be_told_is_not_tried_again() {
        let retold = Retold::default();
        let recording = Bytes::from_static(b"no completion");
        for _ in 0..2 {
            let telling = retold.at_once(&recording, Form::Plain, SILENT);
            assert_eq!(telling, Some(Err(Unreadable)));
        }
        assert!(retold.form(SILENT).initialized());
        assert_eq!(retold.bytes(), 0);
    }

    #[test]
    fn a_stream_whose_usage_came_unasked_is_shared_and_not_told() {
        let retold = Retold::default();
        let recording = Bytes::from_static(b"data: [DONE]\n\n");
        let telling = retold.at_once(&recording, SILENT, Form::Stream { usage: true });
        assert_eq!(telling.unwrap().unwrap().as_ptr(), recording.as_ptr());
        assert_eq!(retold.bytes(), 0);
    }

    #[test]
    fn what_is_told_counts_from_when_its_keeper_says_so() {
        let retold = Retold::default();
        let recording = completion(10);
        let telling = retold.at_once(&recording, Form::Plain, SILENT).unwrap();
        assert_eq!(retold.counted(), 0);
        retold.count();
        assert_eq!(retold.counted(), telling.unwrap().len() as u64);
        assert!(retold.is(&retold.clone()) && !retold.is(&Retold::default()));
    }
}
