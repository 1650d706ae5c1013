//! Renders calls with presets, as webhooks and callbacks with the preset get them.

use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;

use super::{Analyses, AnalysesError, MemoryPermit};
use crate::domain::analysis::Status;
use crate::domain::events::{Event, EventKind, parse_event};
use crate::domain::ids::CallId;
use crate::domain::resource::AnalysisResource;
use crate::domain::trace::TraceContext;
use crate::domain::transforms::presets::Preset;
use crate::domain::transforms::{RenderedBody, Transform, TransformInput};
use crate::store::{StoreError, StoredAnalysis};
use crate::tenants::Tenant;

/// Maximum number of renderings that are computed at the same time.
const MAX_RENDERINGS: usize = 2;

/// Limits the number of simultaneous renderings, because a rendering of a long call takes much memory.
pub(super) fn rendering_permits() -> Semaphore {
    Semaphore::new(MAX_RENDERINGS)
}

impl Analyses {
    /// Returns the request body of a preset for a call, with a permit if the result is large.
    ///
    /// # Errors
    /// [`AnalysesError::NoResult`] until the analysis is finished, [`AnalysesError::NotRendered`] if the preset needs a value that
    /// the call does not have.
    pub async fn rendering(
        &self,
        tenant: &Tenant,
        call_id: &CallId,
        preset: &'static Preset,
        trace: TraceContext,
    ) -> Result<(RenderedBody, Option<MemoryPermit>), AnalysesError> {
        let _permit = self.renderings.acquire().await;
        let (StoredAnalysis { analysis, result }, memory) =
            self.find(tenant, &(tenant.id().clone(), call_id.clone()), trace).await?;
        let now = self.env.clock.now();
        let kind = match (analysis.status, &result) {
            (_, Some(_)) => EventKind::AnalysisCompleted,
            (Status::Failed, None) => EventKind::AnalysisFailed,
            (status, None) => {
                return Err(AnalysesError::NoResult { status, retry_after: analysis.retry_after(now) });
            }
        };
        let link = self.env.public_url.analysis(call_id);
        let resource = AnalysisResource::new(&analysis, result, &self.env.public_url);
        let event = Event::new(kind, analysis.tenant, &resource, link.clone(), now, &*self.env.entropy)
            .map_err(|error| StoreError::Corrupt(error.to_string()))?;
        let rendered = spawn_blocking(move || {
            let transform = Transform { preset: Some(preset.name.to_owned()), ..Transform::default() };
            transform.render(TransformInput { event: parse_event(&event.body, None), link: &link })
        });
        let rendered = rendered.await.map_err(|error| StoreError::Unavailable(error.into()))?;
        Ok((rendered.map_err(|error| AnalysesError::NotRendered(error.0))?, memory))
    }
}
