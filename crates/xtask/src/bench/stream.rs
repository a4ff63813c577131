//! soon
use super::Figure;
pub(super) fn run() -> Result<Vec<Figure>, String> { Ok(vec![]) }
