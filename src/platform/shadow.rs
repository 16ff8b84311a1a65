//! The platform of shadow mode: takes nothing back, and says so.

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};

use super::{Order, Platform};
use crate::model::Answer;

/// Sends nothing. What is decided, paced and recorded around it is what would be if it did.
#[derive(Clone, Copy, Debug)]
pub struct Shadow;

impl Platform for Shadow {
    fn revoke(&self, _: Order) -> BoxFuture<'static, Answer> {
        ready(Answer::Shadow).boxed()
    }
}
