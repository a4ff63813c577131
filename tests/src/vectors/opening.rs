//! What a payee must refuse.
use super::sample::Sample;
use serde_json::Value;
use tombola_core::reject::Reject;
pub(crate) fn invalid(_: &Sample) -> Vec<Value> {
    vec![]
}
pub(crate) fn open(_: &Value) -> Result<(), Reject> {
    Ok(())
}
pub(crate) fn take(_: &Value) -> Result<(), Reject> {
    Ok(())
}
