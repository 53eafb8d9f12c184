//! Sealed secrets at the stores alone: what opens, what does not, and what is said of it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use std::collections::HashMap;

use aws_sdk_dynamodb::types::AttributeValue;
use darkroom_aws::clients::{Access, Clients, Endpoints};
use darkroom_aws::{KeyTable, KeyWrite, Opened, SecretBox, StoreError, Unusable};
use darkroom_core::id::{KeyId, ProjectName};
use darkroom_core::key::{ApiKey, KeyState, Secret, Standing};
use darkroom_core::model::ProviderName;
use darkroom_tests::stores::TestStores;

type Item = HashMap<String, AttributeValue>;

const CIPHERTEXT: &str = "secret";
const NONCE: &str = "secret_nonce";
const DATA_KEY: &str = "secret_data_key";
const SCHEME: &str = "secret_scheme";

fn key(secret: &str) -> ApiKey {
    ApiKey {
        id: KeyId::derive("gemini", secret),
        provider: ProviderName::Gemini,
        project: ProjectName::parse("project").unwrap(),
        account: ProjectName::parse("project").unwrap(),
        state: KeyState::Active,
        standing: Standing::UNTRIED,
        probe: None,
        version: 0,
    }
}

async fn add(stores: &TestStores, secret: &str) -> anyhow::Result<ApiKey> {
    let key = key(secret);
    let written = stores.keys.add_key(&key, &Secret::parse(secret).unwrap(), &stores.secrets).await?;
    assert_eq!(written, KeyWrite::Applied);
    Ok(key)
}

async fn item(stores: &TestStores, key: &ApiKey) -> anyhow::Result<Item> {
    let sk = AttributeValue::S(format!("gemini#project#{}", key.id));
    let pk = AttributeValue::S("KEY".to_owned());
    let get = stores.clients.dynamodb.get_item().table_name(&stores.keys_name).key("pk", pk).key("sk", sk);
    Ok(get.send().await?.item.unwrap())
}

async fn put(stores: &TestStores, table: &str, item: Item) -> anyhow::Result<()> {
    stores.clients.dynamodb.put_item().table_name(table).set_item(Some(item)).send().await?;
    Ok(())
}

/// What opening comes to: the secret, or why there is none.
async fn open(
    keys: &KeyTable,
    key: &ApiKey,
    secrets: &SecretBox,
) -> anyhow::Result<Result<String, Unusable>> {
    match keys.secret(key, secrets).await?.unwrap() {
        Opened::Secret(secret) => Ok(Ok(secret.reveal().to_owned())),
        Opened::Unusable(problem) => Ok(Err(problem)),
    }
}

fn bytes(item: &Item, name: &str) -> Vec<u8> {
    item[name].as_b().unwrap().as_ref().to_vec()
}

fn binary(bytes: Vec<u8>) -> AttributeValue {
    AttributeValue::B(bytes.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_is_stored_sealed_and_opens() -> anyhow::Result<()> {
    let stores = TestStores::start().await?;
    let key = add(&stores, "AIza-secret").await?;
    assert_eq!(open(&stores.keys, &key, &stores.secrets).await?, Ok("AIza-secret".to_owned()));
    let first = item(&stores, &key).await?;
    let mut names: Vec<_> = first.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "account", "key_id", "pk", "project", "provider", CIPHERTEXT, DATA_KEY, NONCE, SCHEME, "sk",
            "standing", "state", "ver"
        ]
    );
    assert_eq!(first[SCHEME], AttributeValue::N("1".to_owned()));
    assert_eq!((bytes(&first, CIPHERTEXT).len(), bytes(&first, NONCE).len()), ("AIza-secret".len() + 16, 12));

    let again = stores.keys.add_key(&key, &Secret::parse("AIza-secret").unwrap(), &stores.secrets).await?;
    assert_eq!(again, KeyWrite::Refused);
    assert_eq!(item(&stores, &key).await?, first, "a second envelope does not replace the first");
    stores.keys.remove_key(&key).await?;
    assert!(stores.keys.secret(&key, &stores.secrets).await?.is_none());
    add(&stores, "AIza-secret").await?;
    let second = item(&stores, &key).await?;
    for part in [CIPHERTEXT, NONCE, DATA_KEY] {
        assert_ne!(first[part], second[part], "{part} is made anew");
    }
    Ok(())
}

/// Changes an item, given another key's item.
type Tamper = fn(&mut Item, &Item);

/// Each change with what is then wrong.
fn tamperings() -> Vec<(&'static str, Tamper, Unusable)> {
    fn swap(item: &mut Item, other: &Item, names: &[&str]) {
        for name in names {
            item.insert((*name).to_owned(), other[*name].clone());
        }
    }
    fn alter(item: &mut Item, name: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut altered = bytes(item, name);
        change(&mut altered);
        item.insert(name.to_owned(), binary(altered));
    }
    vec![
        ("another's ciphertext", |item, other| swap(item, other, &[CIPHERTEXT]), Unusable::Ciphertext),
        ("another's nonce", |item, other| swap(item, other, &[NONCE]), Unusable::Ciphertext),
        ("another's data key", |item, other| swap(item, other, &[DATA_KEY]), Unusable::DataKey),
        (
            "another's whole envelope",
            |item, other| swap(item, other, &[CIPHERTEXT, NONCE, DATA_KEY]),
            Unusable::DataKey,
        ),
        (
            "an altered ciphertext",
            |item, _| alter(item, CIPHERTEXT, |bytes| bytes[3] ^= 4),
            Unusable::Ciphertext,
        ),
        ("an altered nonce", |item, _| alter(item, NONCE, |bytes| bytes[3] ^= 4), Unusable::Ciphertext),
        ("an altered data key", |item, _| alter(item, DATA_KEY, |bytes| bytes[40] ^= 4), Unusable::DataKey),
        (
            "a cut ciphertext",
            |item, _| alter(item, CIPHERTEXT, |bytes| bytes.truncate(20)),
            Unusable::Ciphertext,
        ),
        ("no ciphertext", |item, _| alter(item, CIPHERTEXT, Vec::clear), Unusable::Ciphertext),
        (
            "a cut nonce",
            |item, _| alter(item, NONCE, |bytes| bytes.truncate(11)),
            Unusable::Incomplete(NONCE),
        ),
        ("a cut data key", |item, _| alter(item, DATA_KEY, |bytes| bytes.truncate(30)), Unusable::DataKey),
        ("no data key", |item, _| alter(item, DATA_KEY, Vec::clear), Unusable::DataKey),
        (
            "a data key too long for KMS",
            |item, _| alter(item, DATA_KEY, |bytes| bytes.resize(6_145, 0)),
            Unusable::DataKey,
        ),
        ("the ciphertext gone", |item, _| drop(item.remove(CIPHERTEXT)), Unusable::Incomplete(CIPHERTEXT)),
        ("the nonce gone", |item, _| drop(item.remove(NONCE)), Unusable::Incomplete(NONCE)),
        ("the data key gone", |item, _| drop(item.remove(DATA_KEY)), Unusable::Incomplete(DATA_KEY)),
        ("the scheme gone", |item, _| drop(item.remove(SCHEME)), Unusable::Incomplete(SCHEME)),
        (
            "another scheme",
            |item, _| drop(item.insert(SCHEME.to_owned(), AttributeValue::N("2".to_owned()))),
            Unusable::Scheme(2),
        ),
        (
            "a secret from before secrets were sealed",
            |item, _| {
                item.retain(|name, _| ![NONCE, DATA_KEY, SCHEME].contains(&name.as_str()));
                item.insert(CIPHERTEXT.to_owned(), AttributeValue::S("AIza-one".to_owned()));
            },
            Unusable::Plain,
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_altered_or_swapped_does_not_open_and_nobody_else_notices() -> anyhow::Result<()> {
    let stores = TestStores::start().await?;
    let (one, two) = (add(&stores, "AIza-one").await?, add(&stores, "AIza-two").await?);
    let (sound, other) = (item(&stores, &one).await?, item(&stores, &two).await?);
    for (what, tamper, wanted) in tamperings() {
        let mut tampered = sound.clone();
        tamper(&mut tampered, &other);
        put(&stores, &stores.keys_name, tampered).await?;
        let problem = open(&stores.keys, &one, &stores.secrets).await?;
        assert_eq!(problem, Err(wanted), "{what}");
        let words = wanted.to_string();
        assert!(words.contains("`darkroom keys remove`") && words.contains("`darkroom keys add`"), "{words}");
        assert_eq!(stores.keys.keys().await?.len(), 2, "{what}: the list is read without secrets");
        assert_eq!(open(&stores.keys, &two, &stores.secrets).await?, Ok("AIza-two".to_owned()), "{what}");
    }
    put(&stores, &stores.keys_name, sound).await?;
    assert_eq!(open(&stores.keys, &one, &stores.secrets).await?, Ok("AIza-one".to_owned()));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envelope_of_another_table_or_kms_key_does_not_open() -> anyhow::Result<()> {
    let stores = TestStores::start().await?;
    let key = add(&stores, "AIza-one").await?;
    // The jobs table has the same primary key.
    put(&stores, &stores.jobs_name, item(&stores, &key).await?).await?;
    let elsewhere = KeyTable::new(stores.clients.dynamodb.clone(), stores.jobs_name.clone());
    assert_eq!(open(&elsewhere, &key, &stores.secrets).await?, Err(Unusable::DataKey));

    stores.aws.ensure_key("other")?;
    let other = SecretBox::new(stores.clients.kms(), "other".to_owned());
    assert_eq!(open(&stores.keys, &key, &other).await?, Err(Unusable::DataKey));
    Ok(())
}

/// A mistake of the deployment is an error of the call: no key is to blame for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_kms_that_cannot_be_asked_is_an_error_and_nothing_is_written() -> anyhow::Result<()> {
    let stores = TestStores::start().await?;
    let there = add(&stores, "AIza-one").await?;
    let unknown = SecretBox::new(stores.clients.kms(), "gone".to_owned());
    let Err(StoreError::Refused { store, operation, code, .. }) = stores.keys.secret(&there, &unknown).await
    else {
        panic!("a key of KMS that is not there is no fault of the envelope");
    };
    assert_eq!((store, operation, code.as_str()), ("KMS", "Decrypt", "NotFoundException"));

    let nobody = Clients::new(&Access {
        region: "us-east-1".to_owned(),
        credentials: darkroom::connect::local_credentials(),
        endpoints: Endpoints { kms: Some("http://127.0.0.1:9".to_owned()), ..Endpoints::default() },
    });
    let unreachable = SecretBox::new(nobody.kms(), "test-SecretsKey".to_owned());
    let Err(error) = stores.keys.secret(&there, &unreachable).await else { panic!("nobody answers there") };
    assert!(error.is_temporary(), "{error}");

    for secrets in [&unknown, &unreachable] {
        let new = key("AIza-new");
        let added = stores.keys.add_key(&new, &Secret::parse("AIza-new").unwrap(), secrets).await;
        assert!(added.is_err_and(|error| error.to_string().contains("KMS")));
        assert!(stores.keys.key(&new.id).await?.is_none());
    }
    Ok(())
}
