//! Phone numbers in E.164, by the rules and metadata of Google's libphonenumber.

use std::fmt;

use phonenumber::{Mode, country};
use serde::{Deserialize, Serialize};

/// Region whose numbers are written without a country code, as an ISO 3166-1 code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region(country::Id);

/// The text is not a region of libphonenumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not an ISO 3166-1 code of a region with phone numbers, such as \"UZ\"")]
pub struct InvalidRegion;

impl Region {
    /// Parses an ISO 3166-1 code in capital letters, for example `UZ`. The function does not load libphonenumber's metadata,
    /// which takes 17 MiB of memory.
    ///
    /// # Errors
    /// [`InvalidRegion`] if libphonenumber does not know the region.
    pub fn parse(text: &str) -> Result<Self, InvalidRegion> {
        text.parse().map(Self).map_err(|_| InvalidRegion)
    }
}

/// Phone number in E.164: `+`, the country code and the national number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct PhoneNumber(String);

/// Reason why a text is not a phone number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPhone {
    /// The text has letters, an extension, or another character that numbers do not have.
    #[error("must have only digits, spaces and + ( ) - . /, without an extension")]
    Character,
    /// The text is longer than [`PhoneNumber::MAX_CHARS`].
    #[error("must have at most {max} characters", max = PhoneNumber::MAX_CHARS)]
    TooLong,
    /// No country has such a number.
    #[error("is not a valid phone number: send it with its country code, such as +998901234567")]
    NotANumber,
}

impl PhoneNumber {
    /// Maximum length as given, in characters.
    pub const MAX_CHARS: usize = 40;

    /// Reads a number in any usual spelling. `region` completes a number without a country code. The length and the prefix of the
    /// number must be in use in its country, as far as libphonenumber knows.
    ///
    /// # Errors
    /// [`InvalidPhone`] names the broken rule.
    pub fn parse(text: &str, region: Region) -> Result<Self, InvalidPhone> {
        if text.chars().nth(Self::MAX_CHARS).is_some() {
            return Err(InvalidPhone::TooLong);
        }
        let text = in_ascii(text).ok_or(InvalidPhone::Character)?;
        // An international number must not depend on the region: the crate would remove the region's trunk prefix from some
        // numbers.
        let region = (!text.starts_with('+')).then_some(region.0);
        let number = phonenumber::parse(region, text).map_err(|_| InvalidPhone::NotANumber)?;
        if !number.is_valid() {
            return Err(InvalidPhone::NotANumber);
        }
        Ok(Self(number.format().mode(Mode::E164).to_string()))
    }

    /// Returns the number in E.164.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for PhoneNumber {
    type Error = InvalidPhone;

    /// Reads a stored number, which is in E.164 already.
    fn try_from(text: String) -> Result<Self, InvalidPhone> {
        let digits = text.strip_prefix('+').ok_or(InvalidPhone::NotANumber)?;
        let is_number = !digits.is_empty() && digits.chars().all(|c| c.is_ascii_digit());
        if is_number { Ok(Self(text)) } else { Err(InvalidPhone::NotANumber) }
    }
}

impl fmt::Display for PhoneNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Returns the text with plain spaces and hyphens. Returns `None` if the text has a character that numbers do not have.
///
/// libphonenumber would also read letters, extensions and RFC 3966 parameters. E.164 cannot express an extension. So the function
/// refuses a text with an extension, and does not drop the extension.
fn in_ascii(text: &str) -> Option<String> {
    let plain = |c| match c {
        '0'..='9' | '+' | '(' | ')' | '-' | '.' | '/' => Some(c),
        '\u{2010}'..='\u{2015}' | '\u{2212}' => Some('-'),
        c if c == ' ' || (c.is_whitespace() && !c.is_control()) => Some(' '),
        _ => None,
    };
    text.trim().chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Result<String, InvalidPhone> {
        PhoneNumber::parse(text, Region::parse("UZ").unwrap()).map(|phone| phone.to_string())
    }

    #[test]
    fn every_spelling_of_a_number_is_one_number() {
        for text in [
            "+998901234567",
            "998901234567",
            "901234567",
            "90 123-45-67",
            "(90) 123 45 67",
            "+998 (90) 123-45-67",
            "+998\u{a0}90\u{a0}123\u{2011}45\u{2011}67",
            "00998901234567",
            " +998.90.123.45.67 ",
        ] {
            assert_eq!(read(text).as_deref(), Ok("+998901234567"), "{text:?}");
        }
    }

    #[test]
    fn the_region_completes_numbers_without_a_country_code_only() {
        let russian = |text| PhoneNumber::parse(text, Region::parse("RU").unwrap()).unwrap().to_string();
        assert_eq!(russian("8 (495) 123-45-67"), "+74951234567");
        assert_eq!(russian("+998 90 123 45 67"), "+998901234567");
        assert_eq!(read("+7 495 123-45-67").as_deref(), Ok("+74951234567"));
        assert_eq!(
            PhoneNumber::parse("+800 1234 5678", Region::parse("US").unwrap()).unwrap().as_str(),
            "+80012345678"
        );
        assert_eq!(read("+39 06 1234 5678").as_deref(), Ok("+390612345678"), "a leading zero stays");
    }

    #[test]
    fn a_text_that_is_not_a_number_is_refused() {
        use InvalidPhone::{Character, NotANumber, TooLong};
        for (text, expected) in [
            ("anonymous", Character),
            ("+998901234567 ext. 5", Character),
            ("+998901234567;ext=5", Character),
            ("tel:+998901234567", Character),
            ("+998901234567\0", Character),
            ("", NotANumber),
            ("+", NotANumber),
            ("1", NotANumber),
            ("+999123456789", NotANumber),
            ("+998000000000", NotANumber),
            ("0000000000", NotANumber),
            ("112", NotANumber),
            ("1234567", NotANumber),
            ("+99890123456", NotANumber),
            ("+9989012345678", NotANumber),
            (&"9".repeat(41), TooLong),
        ] {
            assert_eq!(read(text), Err(expected), "{text:?}");
        }
    }

    #[test]
    fn only_codes_of_regions_with_numbers_are_regions() {
        for text in ["UZ", "RU", "KZ", "US"] {
            assert!(Region::parse(text).is_ok(), "{text}");
        }
        for text in ["", "uz", "XX", "UZB", "998"] {
            assert_eq!(Region::parse(text), Err(InvalidRegion), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_number_in_e164_is_read_as_itself(text in "[-+0-9 ().\u{2011}/]{0,41}", region in "UZ|RU|US|IT|AR|MX") {
            let region = Region::parse(&region).unwrap();
            if let Ok(phone) = PhoneNumber::parse(&text, region) {
                prop_assert_eq!(PhoneNumber::try_from(phone.to_string()), Ok(phone.clone()));
                prop_assert_eq!(PhoneNumber::parse(phone.as_str(), region).map(|again| again.to_string()), Ok(phone.to_string()));
            }
        }
    }
}
