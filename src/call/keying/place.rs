//! What keys and routes need of an upstream, taken from the configuration. Pure.

use crate::{
    call::{key::Secret, route::Way, scope::Scoping},
    config::{self, Identity},
};

/// What keys need of an upstream.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) base_url: String,
    pub(super) scoping: Scoping,
}

impl Place {
    pub(super) fn of(upstream: &config::Upstream, secret: &Secret) -> Self {
        let config::BaseUrl {
            scheme,
            authority,
            path,
        } = &upstream.base_url;
        Self {
            name: upstream.name.clone(),
            base_url: format!("{scheme}://{authority}{path}"),
            scoping: Scoping::new(secret, upstream.identity),
        }
    }
}

/// Returns what of an upstream decides about routes.
pub(super) fn way(upstream: &config::Upstream) -> Way {
    Way {
        name: upstream.name.clone(),
        base_url: upstream.base_url.clone(),
        models: upstream.models.clone(),
        rename: upstream.rename.clone(),
        priority: upstream.priority,
        weight: upstream.weight,
        own_key: upstream.api_key.is_some(),
    }
}

/// Returns what of a bearer token counts at every upstream.
pub(super) fn common_identity(upstreams: &[config::Upstream]) -> Identity {
    let mut identities = upstreams.iter().map(|upstream| upstream.identity);
    if identities.all(|identity| identity == Identity::Jwt) {
        Identity::Jwt
    } else {
        Identity::Off
    }
}
