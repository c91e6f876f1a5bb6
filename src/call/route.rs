//! Where a call may go: the upstreams that may answer it, its primary first. Pure.
//!
//! # Decisions
//! | a call | goes to |
//! |---|---|
//! | to `/_u/NAME/...` ([`address`](super::address)) | that upstream, and no other |
//! | of a known dialect, with a model | every upstream whose `models` fit: by `priority`, among equals by weighted rendezvous hashing of the call's own bytes |
//! | of another endpoint, with a model | the first such upstream by `priority` and place: what it made or keeps is not to be had elsewhere |
//! | without a model that is known | the first upstream that serves every model, else the first of all |
//!
//! Rendezvous hashing gives the same call the same order wherever and whenever it is asked for, and an upstream that comes or
//! goes changes the primary of those calls only that it takes or leaves. Health changes nothing: the key covers the primary.
//!
//! # Scope
//! Who stands in must not need the caller's credential where that has no business: another origin than the primary's is a
//! candidate only with a key of the proxy's own. Whether that may be spent for this caller, and who is healthy, is decided
//! elsewhere. A model is renamed only where its place in the body is certain, so that never another one is asked for.

use std::{collections::BTreeMap, num::NonZeroU32, sync::Arc};

use http::uri::{Authority, Scheme};
use sha2::{Digest, Sha256};

use super::splice;
use crate::{
    config::{BaseUrl, Glob},
    dialect::Dialect,
    error::{Error, Kind},
};

/// The upstreams that may answer a call; there is always a primary.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    primary: Candidate,
    others: Vec<Candidate>,
    addressed: bool,
    /// The model asked for, where the route was chosen by it.
    model: Option<Box<str>>,
}

/// One upstream that may answer a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its place in the configuration.
    pub upstream: usize,
    /// The model that it is asked for in place of the call's own; `None` for that.
    pub model: Option<Arc<str>>,
    /// Whether it is asked with a key of the proxy's own.
    pub own_key: bool,
    /// Whether it lies at another origin than the primary: nothing that is the caller's own goes there.
    pub elsewhere: bool,
}

/// What the operator says about one upstream, as far as routes go.
#[derive(Clone, Debug)]
pub struct Way {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub base_url: BaseUrl,
    /// The models that it serves.
    pub models: Vec<Glob>,
    /// What it calls models that are asked for by another name.
    pub rename: BTreeMap<String, String>,
    /// Who has the lowest is asked first.
    pub priority: u32,
    /// Its part of the calls among equals.
    pub weight: NonZeroU32,
    /// Whether it is asked with a key of the proxy's own.
    pub own_key: bool,
}

/// What routes are chosen by.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The upstream that the path addresses.
    pub addressed: Option<usize>,
    /// The dialect, if any.
    pub dialect: Option<Dialect>,
    /// The model asked for, where that is known.
    pub model: Option<&'a str>,
    /// The body as it travels, where it has been read.
    pub body: &'a [u8],
    /// Bytes that every repetition of the call has in common.
    pub stable: &'a [u8],
}

/// The upstreams, and what decides between them.
#[derive(Clone, Debug)]
pub struct Routes {
    spots: Vec<Spot>,
    /// Their places, by priority.
    order: Vec<usize>,
    /// The route of all calls, where there is nothing to choose and nothing to rename.
    only: Option<Arc<Route>>,
}

/// An upstream, prepared.
#[derive(Clone, Debug)]
struct Spot {
    name: String,
    origin: (Scheme, Authority),
    models: Vec<Glob>,
    rename: BTreeMap<String, Arc<str>>,
    priority: u32,
    weight: NonZeroU32,
    own_key: bool,
    /// Stands for the name in the hash.
    salt: u64,
}

impl Route {
    /// Returns the route to the upstream at this place and to no other.
    pub fn to(upstream: usize, own_key: bool) -> Self {
        Self {
            primary: Candidate {
                upstream,
                model: None,
                own_key,
                elsewhere: false,
            },
            others: Vec::new(),
            addressed: false,
            model: None,
        }
    }

    /// Returns the upstream that the key covers: it is asked first, whatever its health.
    pub fn primary(&self) -> &Candidate {
        &self.primary
    }

    /// Returns the same route without those that could stand in for the primary.
    #[must_use]
    pub fn without_others(&self) -> Self {
        Self {
            others: Vec::new(),
            ..self.clone()
        }
    }

    /// Returns candidate number `at`; 0 is the primary.
    pub fn candidate(&self, at: usize) -> Option<&Candidate> {
        match at.checked_sub(1) {
            None => Some(&self.primary),
            Some(other) => self.others.get(other),
        }
    }

    /// Returns the candidates in their order, the primary first.
    pub fn candidates(&self) -> impl Iterator<Item = &Candidate> {
        std::iter::once(&self.primary).chain(&self.others)
    }

    /// Returns the model asked for, where the route was chosen by it.
    pub fn model(&self) -> Option<&str> {
        self.model.as_deref()
    }

    /// Returns whether the caller chose the upstream itself.
    pub fn is_addressed(&self) -> bool {
        self.addressed
    }
}

impl Routes {
    /// Takes over the operator's upstreams, of which there is at least one, in the configuration's order.
    pub fn new(ways: &[Way]) -> Self {
        let spots: Vec<_> = ways.iter().map(Spot::of).collect();
        let mut order: Vec<_> = (0..spots.len()).collect();
        order.sort_by_key(|at| spots.get(*at).map(|spot| spot.priority));
        let only = match spots.as_slice() {
            [one] if one.serves_all() && one.rename.is_empty() => {
                Some(Arc::new(Route::to(0, one.own_key)))
            }
            _ => None,
        };
        Self { spots, order, only }
    }

    /// Returns whether the model of a call makes a difference, so that its body has to be read.
    pub fn need_the_model(&self) -> bool {
        self.only.is_none()
    }

    /// Returns the place of the upstream called `name`.
    ///
    /// # Errors
    /// [`Kind::NotFound`], with the names that there are.
    pub fn find(&self, name: &str) -> Result<usize, Error> {
        let place = self.spots.iter().position(|spot| spot.name == name);
        place.ok_or_else(|| {
            let names: Vec<_> = self.spots.iter().map(|spot| spot.name.as_str()).collect();
            let (name, names) = (clipped(name), names.join("`, `"));
            let message = format!("no upstream is called `{name}`\nhint: there is `{names}`");
            Error::new(Kind::NotFound, message)
        })
    }

    /// Returns where a call may go.
    ///
    /// # Errors
    /// [`Kind::ModelNotFound`] where no upstream serves the model; [`Kind::BadRequest`] where one does by another name, and
    /// the body does not say clearly where the model stands.
    pub fn route(&self, asked: &Asked<'_>) -> Result<Arc<Route>, Error> {
        match (asked.addressed, &self.only, asked.model) {
            (None, Some(only), _) => Ok(only.clone()),
            (addressed, _, Some(model)) => self.by_model(asked, addressed, model),
            (addressed, _, None) => {
                let place = addressed.unwrap_or_else(|| self.without_model());
                let own_key = self.spots.get(place).is_some_and(|spot| spot.own_key);
                Ok(Arc::new(Route {
                    addressed: addressed.is_some(),
                    ..Route::to(place, own_key)
                }))
            }
        }
    }

    /// Returns where calls go whose model is not known.
    fn without_model(&self) -> usize {
        let serves_all = |place: &&usize| self.spots.get(**place).is_some_and(Spot::serves_all);
        let found = self.order.iter().find(serves_all);
        found.or(self.order.first()).copied().unwrap_or_default()
    }

    fn by_model(
        &self,
        asked: &Asked<'_>,
        addressed: Option<usize>,
        model: &str,
    ) -> Result<Arc<Route>, Error> {
        let is_meant = |place: usize| addressed.is_none_or(|addressed| addressed == place);
        let serving = self.order.iter().copied().filter(|place| is_meant(*place));
        let mut serving: Vec<_> = serving
            .filter_map(|place| Some((place, self.spots.get(place)?)))
            .filter(|(_, spot)| spot.serves(model))
            .collect();
        let is_served = !serving.is_empty();
        if serving.iter().any(|(_, spot)| spot.renames(model))
            && splice::only_member(asked.body, MODEL).is_none()
        {
            serving.retain(|(_, spot)| !spot.renames(model));
        }
        if asked.dialect.is_none() {
            serving.truncate(1);
        }
        spread(&mut serving, asked.stable);
        let mut serving = serving.into_iter();
        let Some((place, first)) = serving.next() else {
            return Err(if is_served {
                unclear(model)
            } else {
                unserved(model, addressed.and_then(|place| self.spots.get(place)))
            });
        };
        let others = serving.filter_map(|(place, spot)| {
            let elsewhere = spot.origin != first.origin;
            (spot.own_key || !elsewhere).then(|| spot.candidate(place, model, elsewhere))
        });
        Ok(Arc::new(Route {
            others: others.collect(),
            primary: first.candidate(place, model, false),
            addressed: addressed.is_some(),
            model: Some(model.into()),
        }))
    }
}

impl Spot {
    fn of(way: &Way) -> Self {
        let rename = |(asked, sent): (&String, &String)| (asked.clone(), sent.as_str().into());
        Self {
            name: way.name.clone(),
            origin: (way.base_url.scheme.clone(), way.base_url.authority.clone()),
            models: way.models.clone(),
            rename: way.rename.iter().map(rename).collect(),
            priority: way.priority,
            weight: way.weight,
            own_key: way.own_key,
            salt: digest(way.name.as_bytes()),
        }
    }

    fn serves(&self, model: &str) -> bool {
        self.models.iter().any(|glob| glob.matches(model))
    }

    /// Returns whether it says itself that there is no model that it does not serve.
    fn serves_all(&self) -> bool {
        self.models.contains(&Glob::new("*"))
    }

    fn renames(&self, model: &str) -> bool {
        self.rename.contains_key(model)
    }

    fn candidate(&self, upstream: usize, model: &str, elsewhere: bool) -> Candidate {
        Candidate {
            upstream,
            model: self.rename.get(model).cloned(),
            own_key: self.own_key,
            elsewhere,
        }
    }

    /// Returns how much it is for this call to go there: the highest among equals is its primary (weighted rendezvous
    /// hashing: an upstream twice as heavy wins twice as often).
    fn score(&self, call: u64) -> f64 {
        let drawn = u32::try_from(mixed(call ^ self.salt) >> 32).unwrap_or(u32::MAX);
        let between_0_and_1 = (f64::from(drawn) + 0.5) / (f64::from(u32::MAX) + 1.0);
        -f64::from(self.weight.get()) / between_0_and_1.ln()
    }
}

/// Puts those of equal priority in the call's own order; all are in the order of priority already.
fn spread(serving: &mut [(usize, &Spot)], stable: &[u8]) {
    let has_equals = serving
        .windows(2)
        .any(|pair| matches!(pair, [(_, a), (_, b)] if a.priority == b.priority));
    if !has_equals {
        return;
    }
    let call = digest(stable);
    // Stable, so that whose scores are equal stay in the operator's order.
    serving.sort_by(|(_, a), (_, b)| {
        let by_score = || b.score(call).total_cmp(&a.score(call));
        a.priority.cmp(&b.priority).then_with(by_score)
    });
}

/// Returns what stands for `bytes` in the hash, the same on every machine and in every version.
fn digest(bytes: &[u8]) -> u64 {
    let digest = Sha256::digest(bytes);
    let head = digest.iter().take(8);
    head.fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Spreads a difference in any bit over all bits (the finaliser of `SplitMix64`).
fn mixed(mut bits: u64) -> u64 {
    bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ bits >> 31
}

/// Says that nobody serves a model, or that the one upstream that was addressed does not.
fn unserved(model: &str, addressed: Option<&Spot>) -> Error {
    let model = clipped(model);
    let message = match addressed {
        None => format!("no upstream of this proxy serves the model `{model}`"),
        Some(Spot { name, .. }) => format!(
            "the upstream `{name}` does not serve the model `{model}`\nhint: without `/_u/{name}` in its path, a call goes to whoever serves its model"
        ),
    };
    Error::new(Kind::ModelNotFound, message)
}

fn unclear(model: &str) -> Error {
    let model = clipped(model);
    let message = format!(
        "the body does not say clearly enough that it asks for `{model}`, which the upstream knows by another name\nhint: write one member `model`"
    );
    Error::new(Kind::BadRequest, message)
}

/// Returns the beginning of a text of the client's that an error repeats.
fn clipped(text: &str) -> &str {
    let end = text.char_indices().nth(LONGEST).map(|(at, _)| at);
    end.and_then(|end| text.get(..end)).unwrap_or(text)
}

/// The member of a body that names the model.
pub const MODEL: &str = "model";
/// Characters of a client's text that an error repeats.
const LONGEST: usize = 100;

#[cfg(test)]
mod tests;
