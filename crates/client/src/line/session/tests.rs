use super::*;

#[test]
fn the_name_of_a_session_goes_into_a_path_only_if_it_is_plain() {
    for (name, plain) in [
        ("0Zk3_-aZ", true),
        ("", false),
        ("a/b", false),
        ("a?b", false),
        ("a\r\nX-Evil: 1", false),
        ("é", false),
        (&"x".repeat(257), false),
    ] {
        assert_eq!(is_plain(name), plain, "{name:?}");
    }
}
