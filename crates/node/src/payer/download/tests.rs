use super::*;

fn header(hash: u8) -> ResponseHeader {
    ResponseHeader {
        size: 100,
        units: 10,
        unit_bytes: 10,
        content_hash: ContentHash([hash; 32]),
        through: 0,
    }
}

/// Spec: D-02.
#[test]
fn only_the_same_version_of_a_file_is_gone_on_with() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("song");
    let mut partial = Partial::create(&output, &header(1)).unwrap();
    partial.file.write_all(&[7; 45]).unwrap();
    assert_eq!(
        resumable_units(&output, &header(1)),
        Ok(4),
        "and a cut unit comes again"
    );
    assert_eq!(resumable_units(&output, &header(2)), Ok(0));
    assert_eq!(partial.check_version(&header(1)), Ok(()));
    assert_eq!(partial.check_version(&header(2)), Err(PayerError::ContentMismatch));
}

/// Spec: D-02.
#[test]
fn what_is_not_what_was_announced_gets_no_name() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("song");
    let mut partial = Partial::create(&output, &header(1)).unwrap();
    partial.file.write_all(&[7; 100]).unwrap();
    assert_eq!(partial.finish(&output), Err(PayerError::ContentMismatch));
    assert!(!output.exists());
}

#[test]
fn a_payee_that_keeps_what_was_paid_is_not_tried_for_ever() {
    assert_eq!(next_attempt(5, 1, 0), 1);
    assert_eq!(next_attempt(5, 1, 1), 6);
    assert_eq!(next_attempt(5, 0, 0), 6);
}
