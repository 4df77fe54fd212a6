"""The CUDA source that turns a BGR frame into network inputs: crop, resize or letterbox, BGR ->
RGB, scale, NCHW, for all regions of the frame in one launch.

The grid's z axis counts the regions: the detector has one, the whole frame; the classifier one per
hand. As deploy/core/preprocess.py and deploy/core/roi.py compute it with OpenCV: bilinear with
half-pixel centres, held at the region's edges, rounded to whole pixel values; outside the frame,
and around a letterboxed region, is black. A region without pixels is black throughout.
(OpenCV weighs in steps of 1/2048 and rounds in between, so a pixel may differ by one level.)
"""

FUNCTION = "resample"
# Arguments of the kernel: P pointer, i int32, f float32, as struct and pycuda's prepare write it.
SIGNATURE = "PiiPPiiiiiiffffi"

SOURCE = """
extern "C" __global__ void resample(
    const unsigned char* frame, int frame_width, int frame_height,
    const int* regions,  // (N, 4): left, top, width, height in pixels of the frame
    float* out, int out_width, int out_height,  // (N, 3, out_height, out_width)
    // where the region lies in the output
    int place_left, int place_top, int place_width, int place_height,
    float scale, float offset_0, float offset_1, float offset_2, int is_rgb)
{
    const int x = blockIdx.x * blockDim.x + threadIdx.x;
    const int y = blockIdx.y * blockDim.y + threadIdx.y;
    if (x >= out_width || y >= out_height) return;
    const int* region = regions + 4 * blockIdx.z;
    const int left = region[0], top = region[1], width = region[2], height = region[3];

    float pixel[3] = {0.0f, 0.0f, 0.0f};  // blue, green, red
    const int column = x - place_left, row = y - place_top;
    const bool is_inside = column >= 0 && row >= 0 && column < place_width && row < place_height;
    if (width > 0 && height > 0 && is_inside) {
        float at_x = (column + 0.5f) * width / place_width - 0.5f;
        float at_y = (row + 0.5f) * height / place_height - 0.5f;
        at_x = fminf(fmaxf(at_x, 0.0f), width - 1.0f);
        at_y = fminf(fmaxf(at_y, 0.0f), height - 1.0f);
        const int x0 = (int)at_x, y0 = (int)at_y;
        const int x1 = x0 + 1 < width ? x0 + 1 : x0, y1 = y0 + 1 < height ? y0 + 1 : y0;
        const float part_x = at_x - x0, part_y = at_y - y0;
        const int columns[2] = {left + x0, left + x1}, rows[2] = {top + y0, top + y1};
        for (int j = 0; j < 2; ++j) {
            for (int i = 0; i < 2; ++i) {
                if (columns[i] < 0 || rows[j] < 0) continue;
                if (columns[i] >= frame_width || rows[j] >= frame_height) continue;
                const float weight = (i ? part_x : 1.0f - part_x) * (j ? part_y : 1.0f - part_y);
                const size_t place = (size_t)rows[j] * frame_width + columns[i];
                const unsigned char* source = frame + 3 * place;
                for (int c = 0; c < 3; ++c) pixel[c] += weight * source[c];
            }
        }
    }
    const size_t plane = (size_t)out_width * out_height;
    float* target = out + 3 * plane * blockIdx.z + (size_t)y * out_width + x;
    const float offsets[3] = {offset_0, offset_1, offset_2};
    for (int channel = 0; channel < 3; ++channel) {
        const float value = floorf(pixel[is_rgb ? 2 - channel : channel] + 0.5f);
        target[plane * channel] = (value - offsets[channel]) * scale;
    }
}
"""
