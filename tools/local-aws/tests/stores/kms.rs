//! KMS as the real SDK meets it.

use std::os::unix::fs::PermissionsExt as _;

use crate::common::Local;
use aws_sdk_kms::Client;
use aws_sdk_kms::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_kms::operation::decrypt::{DecryptError, DecryptOutput};
use aws_sdk_kms::operation::generate_data_key::GenerateDataKeyOutput;
use aws_sdk_kms::primitives::Blob;
use aws_sdk_kms::types::{DataKeySpec, KeyState, KeyUsageType};
use darkroom_local_aws::{LocalAws, StartError};

const ARN: &str = "arn:aws:kms:us-east-1:000000000000:key/secrets";
const CONTEXT: [(&str, &str); 2] = [("table", "keys"), ("key_id", "key_1")];

async fn start() -> Local {
    let local = Local::start().await;
    declare(&local);
    local
}

fn declare(local: &Local) {
    local.aws.ensure_key("secrets").unwrap();
    local.aws.ensure_alias("alias/app/secrets", "secrets").unwrap();
}

async fn data_key(client: &Client, context: &[(&str, &str)]) -> GenerateDataKeyOutput {
    let mut request = client.generate_data_key().key_id("secrets").key_spec(DataKeySpec::Aes256);
    for (name, value) in context {
        request = request.encryption_context(*name, *value);
    }
    request.send().await.unwrap()
}

async fn decrypt(
    client: &Client,
    blob: impl Into<Vec<u8>>,
    context: &[(&str, &str)],
) -> Result<DecryptOutput, SdkError<DecryptError>> {
    let mut request = client.decrypt().ciphertext_blob(Blob::new(blob));
    for (name, value) in context {
        request = request.encryption_context(*name, *value);
    }
    request.send().await
}

fn blob(made: &GenerateDataKeyOutput) -> Vec<u8> {
    made.ciphertext_blob().unwrap().as_ref().to_vec()
}

fn is_refused(answer: Result<DecryptOutput, SdkError<DecryptError>>) -> bool {
    answer.is_err_and(|error| error.into_service_error().is_invalid_ciphertext_exception())
}

#[tokio::test]
async fn a_data_key_is_decrypted_in_its_context_alone() {
    let local = start().await;
    let client = local.kms();
    let made = data_key(&client, &CONTEXT).await;
    let plain = made.plaintext().unwrap();
    assert_eq!((plain.as_ref().len(), made.key_id()), (32, Some(ARN)));
    assert!(!blob(&made).windows(32).any(|part| part == plain.as_ref()));
    let opened = decrypt(&client, blob(&made), &CONTEXT).await.unwrap();
    assert_eq!((opened.plaintext(), opened.key_id()), (Some(plain), Some(ARN)));
    assert_eq!(opened.encryption_algorithm().unwrap().as_str(), "SYMMETRIC_DEFAULT");
    let turned = [CONTEXT[1], CONTEXT[0]];
    assert!(decrypt(&client, blob(&made), &turned).await.is_ok(), "the pairs have no order");
    for other in [
        &[][..],
        &CONTEXT[..1],
        &[("table", "keys"), ("key_id", "key_2")],
        &[("table", "other"), ("key_id", "key_1")],
        &[("table", "keys"), ("key_id", "key_1"), ("more", "")],
        &[("tablek", "eys"), ("key_id", "key_1")],
    ] {
        assert!(is_refused(decrypt(&client, blob(&made), other).await), "{other:?}");
    }
    let another = data_key(&client, &CONTEXT).await;
    assert_ne!(another.plaintext(), made.plaintext());
    assert_ne!(another.ciphertext_blob(), made.ciphertext_blob());
}

#[tokio::test]
async fn no_byte_of_a_ciphertext_can_be_altered_and_nothing_cut_or_added() {
    let local = start().await;
    let client = local.kms();
    let sound = blob(&data_key(&client, &CONTEXT).await);
    for index in 0..sound.len() {
        let mut altered = sound.clone();
        altered[index] ^= 1;
        assert!(is_refused(decrypt(&client, altered, &CONTEXT).await), "byte {index}");
    }
    for length in 1..sound.len() {
        assert!(is_refused(decrypt(&client, &sound[..length], &CONTEXT).await), "{length} bytes");
    }
    let longer = [sound.as_slice(), &[0]].concat();
    assert!(is_refused(decrypt(&client, longer, &CONTEXT).await));
    for length in [0, 6_145] {
        let error = decrypt(&client, vec![1; length], &CONTEXT).await.unwrap_err();
        assert_eq!(error.code(), Some("ValidationException"), "{length} bytes");
    }
}

#[tokio::test]
async fn a_key_is_named_by_id_arn_or_alias() {
    let local = start().await;
    let client = local.kms();
    let alias_arn = "arn:aws:kms:us-east-1:000000000000:alias/app/secrets";
    for name in ["secrets", ARN, "alias/app/secrets", alias_arn] {
        let described = client.describe_key().key_id(name).send().await.unwrap();
        let key = described.key_metadata().unwrap();
        assert_eq!((key.key_id(), key.arn()), ("secrets", Some(ARN)), "{name}");
        assert_eq!((key.enabled(), key.key_state()), (true, Some(&KeyState::Enabled)));
        assert_eq!(key.key_usage(), Some(&KeyUsageType::EncryptDecrypt));
        assert_eq!(key.aws_account_id(), Some("000000000000"));
        assert!(key.creation_date().unwrap().secs() > 1_700_000_000);
        let made = client.generate_data_key().key_id(name).number_of_bytes(64).send().await.unwrap();
        assert_eq!((made.plaintext().unwrap().as_ref().len(), made.key_id()), (64, Some(ARN)), "{name}");
    }
    for unknown in ["gone", "alias/gone", "arn:aws:kms:eu-west-1:000000000000:key/secrets"] {
        let error = client.describe_key().key_id(unknown).send().await.unwrap_err();
        assert!(error.into_service_error().is_not_found_exception(), "{unknown}");
        let error = client
            .generate_data_key()
            .key_id(unknown)
            .key_spec(DataKeySpec::Aes256)
            .send()
            .await
            .unwrap_err();
        assert!(error.into_service_error().is_not_found_exception(), "{unknown}");
    }
}

#[tokio::test]
async fn a_data_key_of_another_key_is_refused_when_the_key_is_named() {
    let local = start().await;
    local.aws.ensure_key("other").unwrap();
    let client = local.kms();
    let made = client.generate_data_key().key_id("other").key_spec(DataKeySpec::Aes128).send().await.unwrap();
    assert_eq!(made.plaintext().unwrap().as_ref().len(), 16);
    let named = |key: &str| client.decrypt().key_id(key).ciphertext_blob(Blob::new(blob(&made)));
    assert_eq!(named("other").send().await.unwrap().plaintext(), made.plaintext());
    let error = named("alias/app/secrets").send().await.unwrap_err();
    assert!(error.into_service_error().is_incorrect_key_exception());
    let error = named("gone").send().await.unwrap_err();
    assert!(error.into_service_error().is_not_found_exception());
    // The id inside the ciphertext is bound too: exchanged for another key's, nothing opens.
    local.aws.ensure_key("ether").unwrap();
    let mut exchanged = blob(&made);
    let at = exchanged.windows(5).position(|part| part == b"other").unwrap();
    exchanged[at] = b'e';
    exchanged[at + 1] = b't';
    assert!(is_refused(client.decrypt().key_id("ether").ciphertext_blob(Blob::new(exchanged)).send().await));
}

#[tokio::test]
async fn what_was_encrypted_opens_after_a_restart() {
    let local = start().await;
    let made = data_key(&local.kms(), &CONTEXT).await;
    let local = local.restart().await;
    let undeclared = decrypt(&local.kms(), blob(&made), &CONTEXT).await.unwrap_err();
    assert!(undeclared.into_service_error().is_not_found_exception(), "keys are declared at each start");
    declare(&local);
    let opened = decrypt(&local.kms(), blob(&made), &CONTEXT).await.unwrap();
    assert_eq!(opened.plaintext(), made.plaintext());
    // Another folder has another master key.
    let elsewhere = start().await;
    assert!(is_refused(decrypt(&elsewhere.kms(), blob(&made), &CONTEXT).await));
}

#[tokio::test]
async fn the_master_key_is_its_owners_alone() {
    let local = start().await;
    let file = local.folder().join("kms-master-key");
    let mode = |mode| std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let key = std::fs::read(&file).unwrap();
    let folder = local.folder().to_owned();
    local.aws.shutdown().await;
    let refused = || async {
        match LocalAws::start(crate::common::settings(&folder)).await {
            Err(error @ StartError::MasterKey { .. }) => error.to_string(),
            Err(error) => panic!("{error}"),
            Ok(_) => panic!("it started"),
        }
    };
    for wider in [0o640, 0o604, 0o620, 0o601] {
        mode(wider);
        let text = refused().await;
        assert!(
            text.contains("kms-master-key") && text.contains(&format!("its mode is {wider:o}")),
            "{text}"
        );
        assert!(text.contains("`chmod 600`"), "{text}");
    }
    mode(0o600);
    for length in [0, 31, 33] {
        std::fs::write(&file, vec![0; length]).unwrap();
        let text = refused().await;
        assert!(text.contains("must have 32 bytes: restore it from a copy"), "{text}");
    }
    std::fs::write(&file, &key).unwrap();
    mode(0o400);
    assert!(LocalAws::start(crate::common::settings(&folder)).await.is_ok());
    assert_eq!(std::fs::read(&file).unwrap(), key, "never written again");
}

#[tokio::test]
async fn requests_are_counted_and_strangers_refused() {
    let local = start().await;
    let made = data_key(&local.kms(), &CONTEXT).await;
    for _ in 0..2 {
        decrypt(&local.kms(), blob(&made), &CONTEXT).await.unwrap();
    }
    let stranger = crate::common::kms_client(local.aws.kms_endpoint(), "AKIASTRANGER");
    let error = decrypt(&stranger, blob(&made), &CONTEXT).await.unwrap_err();
    assert_eq!(error.code(), Some("UnrecognizedClientException"));
    let counted = local.aws.requests();
    assert_eq!(counted.get(&("kms", "GenerateDataKey".to_owned())), Some(&1));
    assert_eq!(counted.get(&("kms", "Decrypt".to_owned())), Some(&2), "the stranger is not counted");
    let unsigned = crate::common::http()
        .post(local.aws.kms_endpoint())
        .header("x-amz-target", "TrentService.Decrypt")
        .send()
        .await
        .unwrap();
    assert_eq!(unsigned.status(), 400);
    assert!(unsigned.text().await.unwrap().contains("MissingAuthenticationTokenException"));
}

#[tokio::test]
async fn what_is_not_spoken_or_not_understood_is_refused_by_name() {
    let local = start().await;
    let client = local.kms();
    let error = client.list_keys().send().await.unwrap_err();
    assert_eq!(error.code(), Some("UnknownOperationException"));
    let error = client.generate_data_key().key_id("secrets").send().await.unwrap_err();
    assert_eq!(error.code(), Some("ValidationException"));
    let error = client
        .generate_data_key()
        .key_id("secrets")
        .key_spec(DataKeySpec::Aes256)
        .number_of_bytes(32)
        .send()
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some("ValidationException"));
    let error = client
        .generate_data_key()
        .key_id("secrets")
        .number_of_bytes(32)
        .dry_run(true)
        .send()
        .await
        .unwrap_err();
    assert!(error.message().unwrap().contains("DryRun"), "{error:?}");
    assert!(local.aws.ensure_key("no id").is_err());
    assert!(local.aws.ensure_alias("secrets", "secrets").is_err());
    assert!(local.aws.ensure_alias("alias/x", "gone").is_err());
}
