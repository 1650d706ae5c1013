//! Renders calls with presets, in the same way as for webhooks and callbacks.

use tokio::task::spawn_blocking;

use super::{Analyses, AnalysesError, MemoryPermit};
use crate::domain::analysis::Status;
use crate::domain::events::{Event, EventKind, parse_event};
use crate::domain::ids::CallId;
use crate::domain::resource::AnalysisResource;
use crate::domain::trace::TraceContext;
use crate::domain::transforms::presets::Preset;
use crate::domain::transforms::{MAX_BODY_BYTES, RenderedBody, Transform, TransformInput};
use crate::store::{StoreError, StoredAnalysis};
use crate::tenants::Tenant;

/// Memory that a rendering takes from the budget of renderings, in bytes. The value is the same for every rendering, so that
/// the budget also limits the number of simultaneous renderings.
pub const RENDERING: usize = 2 * MAX_BODY_BYTES;
/// Size of the memory budget of renderings in bytes. The budget suffices for two renderings. With several tenants, a tenant can
/// have only one of them at a time. Requests and deliveries share the budget.
pub const RENDERINGS: usize = 2 * RENDERING;

impl Analyses {
    /// Returns the request body of a preset for a call, with a permit if the result is large.
    ///
    /// # Errors
    /// [`AnalysesError::NoResult`] until the analysis is finished. [`AnalysesError::NotRendered`] if the preset needs a value
    /// that the call does not have. [`AnalysesError::MemoryUsedUp`] if other renderings leave no memory in time.
    pub async fn rendering(
        &self,
        tenant: &Tenant,
        call_id: &CallId,
        preset: &'static Preset,
        trace: TraceContext,
    ) -> Result<(RenderedBody, Option<MemoryPermit>), AnalysesError> {
        let (StoredAnalysis { analysis, result }, memory) =
            self.find(tenant, &(tenant.id().clone(), call_id.clone()), trace).await?;
        // The read may wait for the vendor, so the permit is taken after the read.
        let permit = self.renderings.take_in_time(tenant.id(), RENDERING).await?;
        let now = self.env.clock.now();
        let kind = match (analysis.status, &result) {
            (_, Some(_)) => EventKind::AnalysisCompleted,
            (Status::Failed, None) => EventKind::AnalysisFailed,
            (status, None) => {
                return Err(AnalysesError::NoResult { status, retry_after: analysis.retry_after(now) });
            }
        };
        let link = self.env.public_url.analysis(call_id);
        let event = {
            // The resource has the size of the result, so it is dropped before the rendering.
            let resource = AnalysisResource::new(&analysis, result, &self.env.public_url);
            Event::new(kind, analysis.tenant, &resource, link.clone(), now, &*self.env.entropy)
                .map_err(|error| StoreError::Corrupt(error.to_string()))?
        };
        let rendered = spawn_blocking(move || {
            // The rendering continues if the caller disconnects, so it holds the permit.
            let _permit = permit;
            let transform = Transform { preset: Some(preset.name.to_owned()), ..Transform::default() };
            let parsed = parse_event(&event.body, None);
            drop(event);
            transform.render(TransformInput { event: parsed, link: &link })
        });
        let rendered = rendered.await.map_err(|error| StoreError::Unavailable(error.into()))?;
        Ok((rendered.map_err(|error| AnalysesError::NotRendered(error.0))?, memory))
    }
}
