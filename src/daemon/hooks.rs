//! The fallback hooks from a configuration: the files that hold their secrets are read here, at the start and at each reload.

use std::collections::BTreeMap;

use crate::fallback::{Hook, HookSet, Spec};
use crate::model::UseCase;

/// Reads files, so not to be called where that may not block.
///
/// # Errors
/// In words that name the section and the file.
pub(super) fn set_up(specs: &BTreeMap<UseCase, Spec>) -> Result<HookSet, String> {
    let hook = |(name, spec): (&UseCase, &Spec)| match Hook::new(spec) {
        Ok(hook) => Ok((name.clone(), hook)),
        Err(error) => Err(format!("[use_cases.{name}.fallback]: {error}")),
    };
    specs.iter().map(hook).collect()
}
