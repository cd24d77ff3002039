// SPDX-License-Identifier: Apache-2.0
//! Base32 and base64url of RFC 4648, without padding: the text of hashes in labels and identities.

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const BASE64_URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/// RFC 4648 section 6, upper case, no padding.
pub(crate) fn base32(bytes: &[u8]) -> String {
    encode(bytes, BASE32, 5)
}

/// RFC 4648 section 5, no padding.
pub(crate) fn base64_url(bytes: &[u8]) -> String {
    encode(bytes, BASE64_URL, 6)
}

/// Cuts the bits of `bytes` into groups of `width`, the last one filled up with zeros.
fn encode(bytes: &[u8], alphabet: &[u8], width: u32) -> String {
    let mask = (1 << width) - 1;
    let mut text = String::with_capacity((bytes.len() * 8).div_ceil(width as usize));
    let (mut pending, mut bits) = (0_u32, 0);
    for &byte in bytes {
        // At most 5 bits are pending before the shift, so that 13 bits never overflow.
        pending = (pending << 8 | u32::from(byte)) & 0x1fff;
        bits += 8;
        while bits >= width {
            bits -= width;
            text.push(char::from(alphabet[(pending >> bits & mask) as usize]));
        }
    }
    if bits > 0 {
        text.push(char::from(alphabet[(pending << (width - bits) & mask) as usize]));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4648 section 10, padding removed.
    #[test]
    fn vectors_of_the_rfc() {
        let vectors = [
            ("", "", ""),
            ("f", "MY", "Zg"),
            ("fo", "MZXQ", "Zm8"),
            ("foo", "MZXW6", "Zm9v"),
            ("foob", "MZXW6YQ", "Zm9vYg"),
            ("fooba", "MZXW6YTB", "Zm9vYmE"),
            ("foobar", "MZXW6YTBOI", "Zm9vYmFy"),
        ];
        for (plain, thirty_two, sixty_four) in vectors {
            assert_eq!(base32(plain.as_bytes()), thirty_two);
            assert_eq!(base64_url(plain.as_bytes()), sixty_four);
        }
        assert_eq!(base64_url(&[0xfb, 0xff, 0xfe]), "-__-");
    }
}
