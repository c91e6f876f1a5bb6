//! From a request to a call: its plan, its address, and its body as far as that is read here.

use std::mem;

use http::{request, uri::PathAndQuery};
use hyper::body::Incoming;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::Inner;
use crate::{
    call::{
        Call, Fixed, Payload, Unkeyed,
        address::Addressed,
        keying::{self, Admitted, Identity},
        plan::Plan,
    },
    error::{Error, Kind},
    ledger::Facts,
    listen::{
        Answering,
        arriving::Arriving,
        edge::Parts,
        incoming::{self, Held, Read},
    },
    upstream::headers,
};

impl<S: Answering> Inner<S> {
    /// Makes a call of a request: reads its plan, and its body where that may be keyed.
    pub(super) async fn call(
        &self,
        head: &mut request::Parts,
        body: Incoming,
        facts: &Facts,
    ) -> Result<Call, Error> {
        let body = Arriving::new(body, self.parts.pause);
        let plan = self.parts.policy.plan(&head.headers);
        let mut plan = plan.map_err(|bad| Error::new(Kind::BadHeader, bad.to_string()))?;
        let upgrade = headers::asks_upgrade(&head.headers);
        let (target, addressed) = self.target(&facts.target)?;
        let asked = keying::Head {
            method: &facts.method,
            target: &target,
            addressed,
            headers: &head.headers,
            dialect: facts.dialect,
            upgrade,
        };
        let Parts { keying, policy, .. } = &*self.parts;
        let (payload, identity) = match keying.admits(&asked, &plan) {
            Ok(admitted) => self.read(body, &asked, admitted, facts, &mut plan).await?,
            Err(why) if keying.goes_by_model(&asked) => {
                self.read_for_model(body, &asked, facts, &plan, why).await?
            }
            Err(why) => {
                let identity = keying.unkeyed(&asked, None, &facts.caller, &plan, why)?;
                (incoming::stream(body), identity)
            }
        };
        let Identity {
            keyed,
            read,
            rule,
            route,
        } = identity;
        if let Some(rule) = &rule {
            policy.obey(rule, &mut plan);
        }
        Ok(Call::new(
            Fixed {
                id: facts.id.clone(),
                method: facts.method.clone(),
                target,
                headers: mem::take(&mut head.headers),
                dialect: facts.dialect,
                caller: facts.caller.clone(),
                plan,
                keyed,
                read,
                rule,
                upgrade,
            },
            payload,
            route,
        ))
    }

    async fn read(
        &self,
        body: Arriving,
        head: &keying::Head<'_>,
        admitted: Admitted,
        facts: &Facts,
        plan: &mut Plan,
    ) -> Result<(Payload, Identity), Error> {
        let keying = &self.parts.keying;
        let max = keying.max_body();
        Ok(match self.parts.budget.read(body, max).await? {
            Read::Whole(mut whole) => {
                let size = whole.as_ref().len();
                let identity = apart(size, || self.key(&mut whole, head, admitted, facts, plan))?;
                (whole.into_payload(), identity)
            }
            Read::Partly(payload, why) => {
                let why = admitted.unkeyed.unwrap_or(why);
                let identity = keying.unkeyed(head, None, &facts.caller, plan, why)?;
                (payload, identity)
            }
        })
    }

    /// Reads the body of a call without a key, for the model that it goes by; one that is too large goes as if it named
    /// none.
    async fn read_for_model(
        &self,
        body: Arriving,
        head: &keying::Head<'_>,
        facts: &Facts,
        plan: &Plan,
        why: Unkeyed,
    ) -> Result<(Payload, Identity), Error> {
        let keying = &self.parts.keying;
        let unkeyed = |body: Option<&[u8]>| keying.unkeyed(head, body, &facts.caller, plan, why);
        Ok(
            match self.parts.budget.read(body, keying.max_body()).await? {
                Read::Whole(whole) => {
                    let body = whole.as_ref();
                    let identity = apart(body.len(), || unkeyed(Some(body)))?;
                    (whole.into_payload(), identity)
                }
                Read::Partly(payload, _) => (payload, unkeyed(None)?),
            },
        )
    }

    /// Takes the address of an upstream off a target.
    fn target(&self, sent: &PathAndQuery) -> Result<(PathAndQuery, Option<usize>), Error> {
        Ok(match Addressed::of(sent)? {
            None => (sent.clone(), None),
            Some(Addressed { name, target }) => {
                let upstream = self.parts.keying.routes().find(name)?;
                (target, Some(upstream))
            }
        })
    }

    /// Keys a body. LiteLLM's object goes out of it and into the plan, unless what is left cannot be read, or has no key
    /// whatever it says: that body travels as it came.
    fn key(
        &self,
        whole: &mut Held,
        head: &keying::Head<'_>,
        admitted: Admitted,
        facts: &Facts,
        plan: &mut Plan,
    ) -> Result<Identity, Error> {
        let Parts { keying, policy, .. } = &*self.parts;
        let key = |body: &[u8], plan: &Plan| keying.key(head, admitted, body, &facts.caller, plan);
        let steered = match admitted.unkeyed {
            None => policy.steered(plan, head.headers, whole.as_ref()),
            Some(_) => None,
        };
        let Some(steered) = steered else {
            return key(whole.as_ref(), plan);
        };
        let identity = key(&steered.body, &steered.plan)?;
        if !matches!(identity.keyed, Err(Unkeyed::Body(_))) {
            *plan = steered.plan;
            whole.replace(steered.body);
        }
        Ok(identity)
    }
}

/// Does `work` on a body of `size` bytes; what takes long does not keep other calls of the same thread waiting.
fn apart<T>(size: usize, work: impl FnOnce() -> T) -> T {
    // The runtime is asked only where it matters: that counts one more handle, in a place that all threads share.
    let has_others = || Handle::current().runtime_flavor() == RuntimeFlavor::MultiThread;
    if size > LONG && has_others() {
        tokio::task::block_in_place(work)
    } else {
        work()
    }
}

/// From so many bytes on, keying takes longer than handing a thread's other calls to another one.
const LONG: usize = 256 << 10;
