//! What a wire protocol implements.

use weir_base::{BoxFuture, Env};

use crate::Api;

/// What a front is given.
#[derive(Clone)]
pub struct FrontContext {
    /// The seams.
    pub env: Env,
    /// The broker.
    pub api: Api,
}

/// A wire protocol, listening.
pub trait Front: Send + Sync {
    /// Its name: the key of its endpoint in the image (`kafka`).
    fn name(&self) -> &'static str;

    /// Stops accepting, lets requests under way finish for a while, closes.
    fn drain(&self) -> BoxFuture<'static, ()>;
}
