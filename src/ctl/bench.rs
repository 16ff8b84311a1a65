//! `revokectl bench`: the figures of a bench, and an exit code that says whether a promise was broken.

use super::exit::Failure;
use super::output::Output;
use crate::bench::{self, Args};

pub(super) async fn print(out: &mut Output, args: Args) -> Result<(), Failure> {
    let sheet = bench::run(args).await.map_err(|error| Failure::Bench(format!("{error:#}")))?;
    out.value(&sheet, |sheet, _| sheet.to_string())?;
    sheet.broke().map_or(Ok(()), |why| Err(Failure::Bench(why.to_owned())))
}
