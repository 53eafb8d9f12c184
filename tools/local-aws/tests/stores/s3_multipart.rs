//! Multipart uploads as the real SDK meets them.

use crate::common::Local;
use aws_sdk_s3::Client;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};

const BUCKET: &str = "exports";
const KEY: &str = "export_1.zip";
const MIB: usize = 1024 * 1024;

struct Upload {
    local: Local,
    client: Client,
    id: String,
}

impl Upload {
    async fn begin() -> Self {
        let local = Local::start().await;
        local.aws.ensure_bucket(BUCKET).await.unwrap();
        let client = local.s3();
        let begin = client.create_multipart_upload().bucket(BUCKET).key(KEY).content_type("application/zip");
        let id = begin.metadata("batch", "b_1").send().await.unwrap().upload_id.unwrap();
        Self { local, client, id }
    }

    async fn part(&self, number: i32, bytes: Vec<u8>) -> CompletedPart {
        let part = self.client.upload_part().bucket(BUCKET).key(KEY).upload_id(&self.id).part_number(number);
        let part = part.body(bytes.into()).send().await.unwrap();
        CompletedPart::builder()
            .part_number(number)
            .set_e_tag(part.e_tag)
            .set_checksum_crc32(part.checksum_crc32)
            .build()
    }

    fn complete(
        &self,
        parts: &[CompletedPart],
    ) -> aws_sdk_s3::operation::complete_multipart_upload::builders::CompleteMultipartUploadFluentBuilder
    {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.to_vec())).build();
        self.client
            .complete_multipart_upload()
            .bucket(BUCKET)
            .key(KEY)
            .upload_id(&self.id)
            .multipart_upload(parts)
    }

    fn files(&self) -> usize {
        std::fs::read_dir(self.local.folder().join("s3/objects")).unwrap().count()
    }
}

fn code<E: ProvideErrorMetadata>(error: &SdkError<E>) -> String {
    error.code().unwrap_or("none").to_owned()
}

#[tokio::test]
async fn parts_become_one_object_across_a_restart_and_nothing_else_stays() {
    let mut upload = Upload::begin().await;
    let second = upload.part(2, vec![2; MIB]).await;
    upload.part(1, vec![9; 6 * MIB]).await;
    let first = upload.part(1, vec![1; 5 * MIB]).await;
    upload.part(7, vec![7; 10]).await;
    assert_eq!(upload.files(), 3, "a part that came again replaces the one before");
    upload.local = upload.local.restart().await;
    upload.client = upload.local.s3();

    let listed = upload.client.list_parts().bucket(BUCKET).key(KEY).upload_id(&upload.id).max_parts(2);
    let listed = listed.send().await.unwrap();
    assert_eq!(listed.parts().iter().map(|part| part.part_number().unwrap()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(listed.parts()[0].size(), Some(5 * 1024 * 1024));
    assert_eq!(listed.next_part_number_marker(), Some("2"));

    let absent = upload.client.head_object().bucket(BUCKET).key(KEY).send().await.unwrap_err();
    assert!(absent.into_service_error().is_not_found(), "an object exists once its upload is complete");
    let done = upload.complete(&[first, second]).if_none_match("*").send().await.unwrap();
    assert!(done.e_tag().unwrap().ends_with("-2\""), "{:?}", done.e_tag());
    let got = upload.client.get_object().bucket(BUCKET).key(KEY).send().await.unwrap();
    assert_eq!(got.content_type(), Some("application/zip"));
    assert_eq!(got.metadata().unwrap()["batch"], "b_1");
    let bytes = got.body.collect().await.unwrap().to_vec();
    assert!(bytes[..5 * MIB].iter().all(|byte| *byte == 1) && bytes[5 * MIB..] == vec![2; MIB]);
    assert_eq!(upload.files(), 1);
    let again =
        upload.client.list_parts().bucket(BUCKET).key(KEY).upload_id(&upload.id).send().await.unwrap_err();
    assert_eq!(code(&again), "NoSuchUpload");
}

#[tokio::test]
async fn what_cannot_be_completed_goes_on() {
    let upload = Upload::begin().await;
    let small = upload.part(1, vec![1; 10]).await;
    let last = upload.part(2, vec![2; 10]).await;
    let refused = async |parts: &[CompletedPart]| code(&upload.complete(parts).send().await.unwrap_err());
    assert_eq!(refused(&[small.clone(), last.clone()]).await, "EntityTooSmall");
    assert_eq!(refused(&[last.clone(), small.clone()]).await, "InvalidPartOrder");
    let unknown = CompletedPart::builder().part_number(3).build();
    assert_eq!(refused(&[unknown]).await, "InvalidPart");
    let other = CompletedPart::builder().part_number(2).e_tag("\"other\"").build();
    assert_eq!(refused(&[other]).await, "InvalidPart");
    let present = upload.client.put_object().bucket(BUCKET).key(KEY).body(vec![0].into());
    present.send().await.unwrap();
    let racing = upload.complete(std::slice::from_ref(&last)).if_none_match("*").send().await.unwrap_err();
    assert_eq!(code(&racing), "PreconditionFailed");
    assert_eq!(upload.files(), 3, "two parts and the object that was there");
    upload.complete(&[last]).send().await.unwrap();
    assert_eq!(upload.files(), 1);
}

#[tokio::test]
async fn an_aborted_upload_leaves_nothing() {
    let upload = Upload::begin().await;
    upload.part(1, vec![1; 10]).await;
    let abort =
        || upload.client.abort_multipart_upload().bucket(BUCKET).key(KEY).upload_id(&upload.id).send();
    abort().await.unwrap();
    assert_eq!(upload.files(), 0);
    assert_eq!(code(&abort().await.unwrap_err()), "NoSuchUpload");
    let late = upload.client.upload_part().bucket(BUCKET).key(KEY).upload_id(&upload.id).part_number(2);
    assert_eq!(code(&late.body(vec![1].into()).send().await.unwrap_err()), "NoSuchUpload");
    assert_eq!(upload.files(), 0);
}

#[tokio::test]
async fn a_part_that_does_not_match_its_checksum_is_not_kept() {
    let upload = Upload::begin().await;
    let part = upload.client.upload_part().bucket(BUCKET).key(KEY).upload_id(&upload.id).part_number(1);
    let refused = part.checksum_crc32("AAAAAA==").body(vec![1; 10].into()).send().await.unwrap_err();
    assert_eq!(code(&refused), "BadDigest");
    assert_eq!(upload.files(), 0);
}
