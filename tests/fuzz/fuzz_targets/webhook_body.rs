#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let _ = (darkroom_tests::hostile::WEBHOOK_BODY.run)(input);
});
