//! `Content-Disposition`: an answer is shown where it can be, and saved under a name that every file system takes.

/// `inline`, with the name `stem.extension`. What a file system may not take in `stem` becomes `_`.
pub(super) fn inline(stem: &str, extension: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let mut stem: String = stem.chars().map(safe).collect();
    if stem.starts_with('.') {
        // Else it would be hidden.
        stem.replace_range(..1, "_");
    }
    format!("inline; filename=\"{stem}.{extension}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_name_that_every_system_takes() {
        for (stem, wanted) in [
            ("1716207617.42", "1716207617.42.vtt"),
            ("a:b@c+d=e~f-g_h", "a_b_c_d_e_f-g_h.vtt"),
            ("...", "_...vtt"),
            ("a\"\r\nb", "a___b.vtt"),
        ] {
            assert_eq!(inline(stem, "vtt"), format!("inline; filename=\"{wanted}\""));
        }
    }
}
