//! Pixels to a PNG file.

use png::{ColorType, Compression, EncodingError, Filter};

/// Writes RGB pixels as a PNG that says what it is.
pub(super) fn encode(pixels: &[u8], width: u32, height: u32) -> Result<Vec<u8>, EncodingError> {
    let mut file = Vec::with_capacity(pixels.len() / 8);
    let mut encoder = png::Encoder::new(&mut file, width, height);
    encoder.set_color(ColorType::Rgb);
    encoder.set_compression(Compression::Fast);
    encoder.set_filter(Filter::Paeth);
    encoder.add_text_chunk("Software".to_owned(), "Darkroom".to_owned())?;
    encoder.add_text_chunk(
        "Description".to_owned(),
        "procedural: drawn by a program from the prompt's words, not by an image model".to_owned(),
    )?;
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(file)
}
