// Run single-operator models with ONNX Runtime's DirectML provider, and nothing on the CPU.
//
//     operators.exe CASES
//
// CASES/list names a folder a line; in it are model.onnx and `inputs`, a line "name type file dims…"
// each (type: ONNXTensorElementDataType). Written there: a file NAME.out for each output, and
// `answer`: "done", "load" or "run" with what was said. A provider that has failed is not trusted
// with another case: the program ends, and is started again with the rest.
#include <windows.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <onnxruntime_c_api.h>

namespace {

const OrtApi *api;

// The first entry of dml_provider_factory.h's table.
struct DirectmlApi {
    OrtStatus *(ORT_API_CALL *append)(OrtSessionOptions *, int device);
};

struct Refusal {
    std::string step, what;
};

void need(OrtStatus *status, const char *step) {
    if (!status)
        return;
    std::string what = api->GetErrorMessage(status);
    for (char &letter : what)
        if (letter == '\n' || letter == '\r')
            letter = ' ';
    throw Refusal{step, what};
}

struct Input {
    std::string name;
    int type;
    std::vector<int64_t> shape;
    std::vector<char> bytes;
};

std::vector<Input> read_inputs(const std::string &folder) {
    std::vector<Input> inputs;
    std::ifstream list(folder + "/inputs");
    for (std::string line; std::getline(list, line);) {
        std::istringstream words(line);
        Input input;
        std::string file;
        words >> input.name >> input.type >> file;
        for (int64_t size; words >> size;)
            input.shape.push_back(size);
        std::ifstream data(folder + "/" + file, std::ios::binary);
        input.bytes.assign(std::istreambuf_iterator<char>(data), {});
        input.bytes.reserve(8); // an empty tensor needs an address too
        inputs.push_back(input);
    }
    return inputs;
}

size_t width(ONNXTensorElementDataType type) {
    switch (type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT: return 4;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16: return 2;
    default: return 8;
    }
}

void run(OrtEnv *environment, const std::string &folder) {
    OrtSessionOptions *options;
    OrtSession *session;
    OrtAllocator *allocator;
    OrtMemoryInfo *memory;
    const DirectmlApi *directml;
    need(api->CreateSessionOptions(&options), "load");
    need(api->DisableMemPattern(options), "load");
    need(api->SetSessionExecutionMode(options, ORT_SEQUENTIAL), "load");
    need(api->AddSessionConfigEntry(options, "session.disable_cpu_ep_fallback", "1"), "load");
    need(api->GetExecutionProviderApi("DML", ORT_API_VERSION, (const void **)&directml), "load");
    need(directml->append(options, 0), "load");
    std::string model = folder + "/model.onnx";
    std::wstring path(model.begin(), model.end());
    need(api->CreateSession(environment, path.c_str(), options, &session), "load");
    need(api->GetAllocatorWithDefaultOptions(&allocator), "load");
    need(api->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &memory), "load");

    std::vector<Input> inputs = read_inputs(folder);
    std::vector<const char *> input_names, output_names;
    std::vector<OrtValue *> values;
    for (Input &input : inputs) {
        OrtValue *value;
        need(api->CreateTensorWithDataAsOrtValue(memory, input.bytes.data(), input.bytes.size(),
                                                 input.shape.data(), input.shape.size(),
                                                 (ONNXTensorElementDataType)input.type, &value),
             "load");
        input_names.push_back(input.name.c_str());
        values.push_back(value);
    }
    size_t count;
    need(api->SessionGetOutputCount(session, &count), "load");
    for (size_t i = 0; i < count; i++) {
        char *name;
        need(api->SessionGetOutputName(session, i, allocator, &name), "load");
        output_names.push_back(name);
    }
    std::vector<OrtValue *> outputs(count, nullptr);
    need(api->Run(session, nullptr, input_names.data(), values.data(), values.size(),
                  output_names.data(), count, outputs.data()),
         "run");
    for (size_t i = 0; i < count; i++) {
        OrtTensorTypeAndShapeInfo *info;
        ONNXTensorElementDataType type;
        size_t elements;
        void *data;
        need(api->GetTensorTypeAndShape(outputs[i], &info), "run");
        need(api->GetTensorShapeElementCount(info, &elements), "run");
        need(api->GetTensorElementType(info, &type), "run");
        need(api->GetTensorMutableData(outputs[i], &data), "run");
        std::ofstream file(folder + "/" + output_names[i] + ".out", std::ios::binary);
        file.write((char *)data, std::streamsize(elements * width(type)));
        api->ReleaseValue(outputs[i]);
    }
    api->ReleaseSession(session);
    api->ReleaseSessionOptions(options);
}

} // namespace

int main(int, char **arguments) {
    std::string cases = arguments[1];
    auto base = (const OrtApiBase *(ORT_API_CALL *)())(void *)GetProcAddress(
        LoadLibraryA("onnxruntime.dll"), "OrtGetApiBase");
    api = base()->GetApi(ORT_API_VERSION);
    std::ofstream(cases + "/version") << base()->GetVersionString();
    OrtEnv *environment;
    need(api->CreateEnv(ORT_LOGGING_LEVEL_FATAL, "sweep", &environment), "load");
    std::ifstream list(cases + "/list");
    for (std::string name; std::getline(list, name);) {
        std::string folder = cases + "/" + name, said = "done", step;
        try {
            run(environment, folder);
        } catch (const Refusal &refusal) {
            step = refusal.step;
            said = refusal.step + " " + refusal.what;
        }
        std::ofstream(folder + "/answer") << said;
        if (step == "run")
            break;
    }
    TerminateProcess(GetCurrentProcess(), 0);
}
