//! `Content-Disposition`: browsers show an answer inline and save it under a portable file name.

/// Returns `inline` with the file name `stem.extension`. Characters that are not portable become `_`.
pub(super) fn inline(stem: &str, extension: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let mut stem: String = stem.chars().map(safe).collect();
    if stem.starts_with('.') {
        // A leading dot would hide the file on Unix.
        stem.replace_range(..1, "_");
    }
    format!("inline; filename=\"{stem}.{extension}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_names_are_portable() {
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
