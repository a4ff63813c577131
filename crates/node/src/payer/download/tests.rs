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
